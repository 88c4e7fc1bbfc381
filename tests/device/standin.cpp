// A PyTorch device that lives in host memory and behaves like an accelerator: it refuses to mix with the CPU and with
// its second device, has a limited memory and random numbers of its own, and counts what the host asks of it. Every
// operation runs on the CPU, on the same memory. See standin.py for what it is for.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_coalesced_native.h>
#include <ATen/ops/_conj.h>
#include <ATen/ops/_indices_native.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/_neg_view.h>
#include <ATen/ops/_nnz_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <ATen/ops/_sparse_coo_tensor_with_dims_and_tensors_native.h>
#include <ATen/ops/_sparse_coo_tensor_with_dims_native.h>
#include <ATen/ops/_sparse_csr_tensor_unsafe.h>
#include <ATen/ops/_values_native.h>
#include <ATen/ops/as_strided_cpu_dispatch.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ccol_indices_native.h>
#include <ATen/ops/col_indices_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/crow_indices_native.h>
#include <ATen/ops/dense_dim_native.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/indices_native.h>
#include <ATen/ops/is_coalesced_native.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/row_indices_native.h>
#include <ATen/ops/set_cpu_dispatch.h>
#include <ATen/ops/smooth_l1_loss.h>
#include <ATen/ops/sparse_dim_native.h>
#include <ATen/ops/unfold_cpu_dispatch.h>
#include <ATen/ops/values_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

#include <map>
#include <mutex>
#include <set>
#include <string>

namespace {

constexpr auto kStandin = c10::DeviceType::PrivateUse1;
constexpr int kDevices = 2;

// --- what is counted -----------------------------------------------------------------------------------------------

std::mutex counting;
int64_t n_ops = 0, n_syncs = 0, n_to_host = 0, n_from_host = 0;
std::map<std::string, int64_t> by_name;

void count(int64_t& what, const std::string& name) {
  std::lock_guard<std::mutex> lock(counting);
  ++what;
  ++by_name[name];
}

// --- memory --------------------------------------------------------------------------------------------------------

std::mutex booking;
int64_t allocated[kDevices] = {}, peak[kDevices] = {};
int64_t limit[kDevices] = {int64_t(1) << 34, int64_t(1) << 34};
thread_local int current = 0;

void book(int device, int64_t bytes) {
  std::lock_guard<std::mutex> lock(booking);
  TORCH_CHECK_WITH(
      OutOfMemoryError, allocated[device] + bytes <= limit[device], "standin:", device, " out of memory. Tried to allocate ",
      bytes, " bytes, of ", limit[device], " ", allocated[device], " are in use.");
  allocated[device] += bytes;
  peak[device] = std::max(peak[device], allocated[device]);
}

struct Block {  // memory of the device: its own, or that of a tensor which an operation made on the CPU
  int device;
  int64_t bytes;
  void* own;
  c10::Storage kept;
  static void release(void* context) {
    auto* block = static_cast<Block*>(context);
    if (block->own) c10::free_cpu(block->own);
    {
      std::lock_guard<std::mutex> lock(booking);
      allocated[block->device] -= block->bytes;
    }
    delete block;
  }
};

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    auto device = c10::Device(kStandin, static_cast<c10::DeviceIndex>(current));
    if (bytes == 0) return {nullptr, nullptr, &c10::detail::deleteNothing, device};
    book(current, bytes);
    auto* block = new Block{current, static_cast<int64_t>(bytes), c10::alloc_cpu(bytes), {}};
    return {block->own, block, &Block::release, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, std::size_t n) const override { memcpy(to, from, n); }
};
Memory memory;
REGISTER_ALLOCATOR(kStandin, &memory);

// Pinned memory is a list of pointers: what matters is that torch can tell.
std::mutex pinning;
std::set<void*> pinned;
struct Pinned final : c10::Allocator {
  static void release(void* p) {
    {
      std::lock_guard<std::mutex> lock(pinning);
      pinned.erase(p);
    }
    c10::free_cpu(p);
  }
  c10::DataPtr allocate(size_t bytes) override {
    void* p = c10::alloc_cpu(std::max<size_t>(bytes, 1));
    std::lock_guard<std::mutex> lock(pinning);
    pinned.insert(p);
    return {p, p, &release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t n) const override { memcpy(to, from, n); }
};
Pinned pinned_memory;

// --- devices and streams -------------------------------------------------------------------------------------------

struct At {  // makes a device the current one for as long as it lives
  int before;
  explicit At(int device) : before(current) { current = device; }
  ~At() { current = before; }
};

int index_of(c10::Device device) { return device.has_index() ? device.index() : current; }

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static constexpr c10::DeviceType static_type = kStandin;
  static c10::Device at(int index) { return c10::Device(kStandin, static_cast<c10::DeviceIndex>(index)); }
  static c10::Stream stream(c10::Device d) { return c10::Stream(c10::Stream::DEFAULT, at(index_of(d))); }
  c10::DeviceType type() const override { return kStandin; }
  c10::Device exchangeDevice(c10::Device d) const override {
    auto before = at(current);
    setDevice(d);
    return before;
  }
  c10::Device getDevice() const override { return at(current); }
  void setDevice(c10::Device d) const override {
    TORCH_CHECK(index_of(d) >= 0 && index_of(d) < kDevices, "there is no ", d, ": there are ", kDevices, " of them");
    current = index_of(d);
  }
  void uncheckedSetDevice(c10::Device d) const noexcept override { current = index_of(d); }
  c10::Stream getStream(c10::Device d) const override { return stream(d); }
  c10::Stream getDefaultStream(c10::Device d) const override { return stream(d); }
  c10::Stream getNewStream(c10::Device d, int) const override { return stream(d); }
  c10::Stream exchangeStream(c10::Stream s) const override { return s; }
  c10::DeviceIndex deviceCount() const noexcept override { return kDevices; }
  void record(void** event, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {
    static int happened;
    *event = &happened;
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override { count(n_syncs, "(synchronise)"); }
  void synchronizeEvent(void*) const override { count(n_syncs, "(synchronise)"); }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Luck final : c10::GeneratorImpl {  // random numbers of the device: those of a CPU generator of its own
  at::Generator inner;
  explicit Luck(int device, at::Generator inner = at::detail::createCPUGenerator())
      : c10::GeneratorImpl(Guard::at(device), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)), inner(inner) {}
  void set_current_seed(uint64_t seed) override { inner.set_current_seed(seed); }
  void set_offset(uint64_t offset) override { inner.set_offset(offset); }
  uint64_t get_offset() const override { return inner.get_offset(); }
  uint64_t current_seed() const override { return inner.current_seed(); }
  uint64_t seed() override { return inner.seed(); }
  void set_state(const c10::TensorImpl& state) override { inner.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return inner.unsafeGetGeneratorImpl()->get_state();
  }
  Luck* clone_impl() const override { return new Luck(device().index(), inner.clone()); }
};

const at::Generator& default_generator(int device) {
  static at::Generator all[kDevices] = {at::make_generator<Luck>(0), at::make_generator<Luck>(1)};
  return all[device];
}

struct Hooks final : at::PrivateUse1HooksInterface {
  void init() const override {}
  bool isAvailable() const override { return true; }
  bool isBuilt() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return kDevices; }
  c10::DeviceIndex getCurrentDevice() const override { return static_cast<c10::DeviceIndex>(current); }
  void setCurrentDevice(c10::DeviceIndex d) const override { Guard().setDevice(Guard::at(d)); }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex d) const override {
    return Guard().exchangeDevice(Guard::at(d)).index();
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex d) const override { return exchangeDevice(d); }
  at::Device getDeviceFromPtr(void*) const override { return Guard::at(current); }
  bool isPinnedPtr(const void* p) const override {
    std::lock_guard<std::mutex> lock(pinning);
    return pinned.count(const_cast<void*>(p)) > 0;
  }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_memory; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex d) const override {
    return default_generator(d < 0 ? current : d);
  }
  at::Generator getNewGenerator(c10::DeviceIndex d) const override {
    return at::make_generator<Luck>(d < 0 ? current : d);
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    At here(index_of(storage.device()));
    at::native::resize_bytes_cpu(storage.unsafeGetStorageImpl(), bytes);
  }
};
Hooks hooks;

// --- between the device and the CPU --------------------------------------------------------------------------------

bool here(const at::Tensor& t) { return t.defined() && t.device().type() == kStandin; }

at::Tensor on_cpu(const at::Tensor& t) {  // the same memory as a tensor of the CPU
  if (t.layout() == at::kSparse) {
    auto out = at::_sparse_coo_tensor_unsafe(on_cpu(t._indices()), on_cpu(t._values()), t.sizes());
    return out._coalesced_(t.is_coalesced());
  }
  if (t.layout() == at::kSparseCsr) {
    auto options = at::TensorOptions().dtype(t.dtype()).device(at::kCPU).layout(at::kSparseCsr);
    return at::_sparse_csr_tensor_unsafe(
        on_cpu(t.crow_indices()), on_cpu(t.col_indices()), on_cpu(t.values()), t.sizes(), options);
  }
  TORCH_CHECK(t.layout() == at::kStrided, "the stand-in knows no tensors with layout ", t.layout());
  auto* data = static_cast<char*>(t.storage().mutable_data());
  auto out = at::for_blob(data ? data + t.storage_offset() * t.element_size() : nullptr, t.sizes())
                 .strides(t.strides())
                 .options(at::TensorOptions().dtype(t.dtype()).device(at::kCPU))
                 .allocator(c10::GetCPUAllocator())
                 .resizeable_storage()
                 .make_tensor();
  if (t.is_conj()) out = at::_conj(out);
  if (t.is_neg()) out = at::_neg_view(out);
  return out;
}

at::Tensor on_device(const at::Tensor& given, int device) {  // the same memory as a tensor of the device
  At there(device);
  if (given.layout() == at::kSparse) {
    auto out = at::_sparse_coo_tensor_unsafe(
        on_device(given._indices(), device), on_device(given._values(), device), given.sizes());
    return out._coalesced_(given.is_coalesced());
  }
  if (given.layout() == at::kSparseCsr) {
    auto values = on_device(given.values(), device);
    return at::_sparse_csr_tensor_unsafe(
        on_device(given.crow_indices(), device), on_device(given.col_indices(), device), values, given.sizes(),
        values.options().layout(at::kSparseCsr));
  }
  auto t = given.resolve_conj().resolve_neg();
  auto kept = t.storage();
  int64_t bytes = kept.nbytes();
  book(device, bytes);
  auto* block = new Block{device, bytes, nullptr, kept};
  c10::DataPtr data(kept.mutable_data(), block, &Block::release, Guard::at(device));
  auto storage = c10::Storage(c10::Storage::use_byte_size_t(), bytes, std::move(data), &memory, true);
  auto out = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), t.dtype());
  out.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides());
  out.unsafeGetTensorImpl()->set_storage_offset(t.storage_offset());
  return out;
}

// What makes CUDA wait for the device: shapes and errors that depend on values.
const std::set<std::string> waits = {
    "aten::nonzero", "aten::masked_select", "aten::equal", "aten::bincount", "aten::_unique", "aten::_unique2",
    "aten::unique_dim", "aten::unique_consecutive", "aten::unique_dim_consecutive", "aten::repeat_interleave",
    "aten::_linalg_eigh", "aten::linalg_eig", "aten::_linalg_eigvals", "aten::_linalg_svd", "aten::linalg_lstsq",
    "aten::_coalesce", "aten::histogram", "aten::_to_sparse", "aten::multinomial", "aten::is_nonzero"};

// Arguments that CUDA takes from the CPU.
bool may_lie_on_cpu(const std::string& op, const std::string& argument) {
  if (argument == "indices") return op.rfind("aten::index", 0) == 0 || op == "aten::_index_put_impl_" || op == "aten::_unsafe_index";
  return op == "aten::_pack_padded_sequence" && argument == "lengths";
}

// One call of one operation: its arguments on the CPU, and who they were.
struct Call {
  const c10::OperatorHandle& op;
  std::string name;
  int device = -1;
  bool waits_for_mask = false;
  std::vector<at::Tensor> originals, aliases;
  std::vector<bool> written;

  explicit Call(const c10::OperatorHandle& op) : op(op), name(op.schema().name()) {}

  void join(const at::Tensor& t) {
    TORCH_CHECK(
        device < 0 || device == t.device().index(), "Expected all tensors to be on the same device, but found at least two devices, ",
        Guard::at(device), " and ", t.device(), "! (", name, ")");
    device = t.device().index();
  }
  void find(const c10::IValue& value) {
    if (value.isTensor() && here(value.toTensor())) join(value.toTensor());
    if (value.isTensorList())
      for (const auto& t : value.toTensorVector()) if (here(t)) join(t);
    if (value.isOptionalTensorList())
      for (const std::optional<at::Tensor>& t : value.toOptionalTensorVector()) if (t && here(*t)) join(*t);
  }
  at::Tensor taken(const at::Tensor& t, const c10::Argument& argument) {
    bool writes = argument.alias_info() && argument.alias_info()->isWrite();
    if (!t.defined()) return t;
    if (!here(t)) {
      bool from_host = may_lie_on_cpu(name, argument.name());
      TORCH_CHECK(
          from_host || (t.dim() == 0 && !writes), "Expected all tensors to be on the same device, but found at least two devices, ",
          Guard::at(std::max(device, 0)), " and ", t.device(), "! (argument ", argument.name(), " of ", name, ")");
      if (from_host && t.dim()) count(n_from_host, "(copy from host)");
      return t;
    }
    bool is_mask = t.scalar_type() == at::kBool || t.scalar_type() == at::kByte;
    if (argument.name() == "indices" && is_mask && may_lie_on_cpu(name, "indices")) waits_for_mask = true;
    auto alias = on_cpu(t);
    originals.push_back(t);
    aliases.push_back(alias);
    written.push_back(writes);
    return alias;
  }
  c10::IValue taken(const c10::IValue& value, const c10::Argument& argument) {
    if (value.isTensor()) return taken(value.toTensor(), argument);
    if (value.isTensorList()) {
      c10::List<at::Tensor> out;
      for (const auto& t : value.toTensorVector()) out.push_back(taken(t, argument));
      return out;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> out;
      for (const auto& t : value.toOptionalTensorVector())
        out.push_back(t ? std::optional<at::Tensor>(taken(*t, argument)) : std::nullopt);
      return out;
    }
    if (value.isDevice() && value.toDevice().type() == kStandin) return c10::Device(c10::DeviceType::CPU);
    if (value.isGenerator()) {
      auto generator = value.toGenerator();
      TORCH_CHECK(generator.device().type() == kStandin, "Expected a 'standin' device type for generator but found '", generator.device(), "'");
      return static_cast<Luck*>(generator.unsafeGetGeneratorImpl())->inner;
    }
    auto* optional = argument.type()->castRaw<c10::OptionalType>();
    if (value.isNone() && optional && optional->getElementType()->kind() == c10::TypeKind::GeneratorType)
      return static_cast<Luck*>(default_generator(std::max(device, 0)).unsafeGetGeneratorImpl())->inner;
    return value;
  }
  void write_back() {  // what an operation has resized lies elsewhere now
    for (size_t k = 0; k < aliases.size(); ++k) {
      const auto &alias = aliases[k], &original = originals[k];
      if (!written[k] || alias.layout() != at::kStrided) continue;
      auto* before = original.numel() ? original.data_ptr() : nullptr;
      if (alias.sizes() == original.sizes() && (alias.numel() == 0 || alias.data_ptr() == before)) continue;
      At there(device);
      original.resize_(alias.sizes());
      on_cpu(original).copy_(alias);
    }
  }
  at::Tensor given(const at::Tensor& t) {
    if (!t.defined()) return t;
    if (t._is_zerotensor()) {  // autograd's zeros without memory
      At there(std::max(device, 0));
      return at::zeros(t.sizes(), t.options().device(Guard::at(std::max(device, 0))));
    }
    for (size_t k = 0; k < aliases.size(); ++k)
      if (t.is_same(aliases[k])) return originals[k];
    if (t.layout() == at::kStrided)
      for (size_t k = 0; k < aliases.size(); ++k)
        if (aliases[k].layout() == at::kStrided && t.storage().nbytes() && t.is_alias_of(aliases[k])) {
          const auto& original = originals[k];
          TORCH_CHECK(t.dtype() == original.dtype(), "the stand-in knows no view as another dtype: ", name);
          return original.as_strided(t.sizes(), t.strides(), original.storage_offset() + t.storage_offset());
        }
    return on_device(t, std::max(device, 0));
  }
  c10::IValue given(const c10::IValue& value) {
    if (value.isTensor()) return given(value.toTensor());
    if (!value.isTensorList()) return value;
    c10::List<at::Tensor> out;
    for (const auto& t : value.toTensorVector()) out.push_back(given(t));
    return out;
  }
};

void run_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto n = schema.arguments().size();
  Call call(op);
  for (size_t k = 0; k < n; ++k) call.find((*stack)[stack->size() - n + k]);
  for (size_t k = 0; k < n; ++k) {
    auto& slot = (*stack)[stack->size() - n + k];
    slot = call.taken(slot, schema.arguments()[k]);
  }
  count(n_ops, call.name);
  if (call.waits_for_mask || waits.count(call.name)) count(n_syncs, "(wait) " + call.name);
  op.callBoxed(stack);
  call.write_back();
  const auto m = schema.returns().size();
  for (size_t k = 0; k < m; ++k) {
    auto& slot = (*stack)[stack->size() - m + k];
    slot = call.given(slot);
  }
}

// --- what cannot go that way: tensors from nothing, copies, views, storages, convolutions -------------------------------

using Ints = at::IntArrayRef;
using Syms = c10::SymIntArrayRef;
using Maybe = std::optional<at::Tensor>;

at::Tensor empty(
    Ints size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<at::Device> device,
    std::optional<bool>, std::optional<at::MemoryFormat> format) {
  At there(device ? index_of(*device) : current);
  return at::detail::empty_generic(
      size, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::dtype_or_default(dtype), format);
}
at::Tensor empty_strided(
    Ints size, Ints stride, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
    std::optional<at::Device> device, std::optional<bool>) {
  At there(device ? index_of(*device) : current);
  return at::detail::empty_strided_generic(
      size, stride, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::dtype_or_default(dtype));
}
at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  if (here(from) && here(to)) count(n_ops, "aten::copy_");
  else if (here(to)) count(n_from_host, "(copy from host)");
  else count(n_to_host, "(copy to host)");
  auto a = here(from) ? on_cpu(from) : from, b = here(to) ? on_cpu(to) : to;
  b.copy_(a);
  return to;
}
at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}
at::Scalar local_scalar(const at::Tensor& t) {
  count(n_syncs, "aten::_local_scalar_dense");
  return at::_local_scalar_dense(on_cpu(t));
}
at::Tensor as_strided(const at::Tensor& t, Ints size, Ints stride, std::optional<int64_t> offset) {
  return at::cpu::as_strided(t, size, stride, offset);
}
at::Tensor view(const at::Tensor& t, Syms size) { return at::native::view(t, C10_AS_INTARRAYREF_SLOW(size)); }
at::Tensor reshape_alias(const at::Tensor& t, Syms size, Syms stride) {
  return at::native::_reshape_alias(t, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}
at::Tensor unfold(const at::Tensor& t, int64_t dim, int64_t size, int64_t step) {
  return at::cpu::unfold(t, dim, size, step);
}
const at::Tensor& resize_(const at::Tensor& t, Syms size, std::optional<at::MemoryFormat> format) {
  At there(t.device().index());
  at::native::resize_impl_cpu_(t.unsafeGetTensorImpl(), C10_AS_INTARRAYREF_SLOW(size), std::nullopt);
  if (format) t.unsafeGetTensorImpl()->empty_tensor_restride(*format);
  return t;
}
at::Tensor& set_storage(at::Tensor& t, at::Storage source, int64_t offset, Ints size, Ints stride) {
  return at::cpu::set_(t, source, offset, size, stride);
}
at::Tensor& set_whole_storage(at::Tensor& t, at::Storage source) {
  int64_t n = source.nbytes() / t.dtype().itemsize();
  return at::cpu::set_(t, source, 0, {n}, {1});
}
at::Tensor& set_tensor(at::Tensor& t, const at::Tensor& source) {
  return at::cpu::set_(t, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}
at::Tensor& set_nothing(at::Tensor& t) {
  return at::cpu::set_(t, c10::Storage(c10::Storage::use_byte_size_t(), 0, &memory, true), 0, {0}, {1});
}
bool is_set_to(const at::Tensor& a, const at::Tensor& b) {
  return a.storage().unsafeGetStorageImpl() == b.storage().unsafeGetStorageImpl() &&
      a.storage_offset() == b.storage_offset() && a.sizes() == b.sizes() && a.strides() == b.strides();
}
bool is_pinned(const at::Tensor&, std::optional<at::Device>) { return false; }
void record_stream(at::Tensor&, c10::Stream) {}

void same_device(const char* name, const at::Tensor& x, const at::Tensor& w, const Maybe& b) {
  for (const auto& t : {x, w, b ? *b : at::Tensor()})
    TORCH_CHECK(
        !t.defined() || t.device() == x.device(), "Expected all tensors to be on the same device, but found at least two devices, ", x.device(),
        " and ", t.device(), "! (", name, ")");
}
at::Tensor convolution(
    const at::Tensor& x, const at::Tensor& w, const Maybe& b, Syms stride, Syms padding, Syms dilation, bool transposed,
    Syms output_padding, c10::SymInt groups) {
  same_device("aten::convolution", x, w, b);
  count(n_ops, "aten::convolution");
  Maybe bias;
  if (b && b->defined()) bias = on_cpu(*b);
  auto y = at::convolution_symint(
      on_cpu(x), on_cpu(w), bias, stride, padding, dilation, transposed, output_padding, groups);
  return on_device(y, x.device().index());
}
std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gy, const at::Tensor& x, const at::Tensor& w, Syms stride, Syms padding, Syms dilation,
    bool transposed, Syms output_padding, c10::SymInt groups, std::array<bool, 3> mask) {
  same_device("aten::convolution_backward", x, w, gy);
  count(n_ops, "aten::convolution_backward");
  std::vector<c10::SymInt> bias = {w.sym_size(transposed ? 1 : 0) * (transposed ? groups : c10::SymInt(1))};
  auto [a, b, c] = at::convolution_backward_symint(
      on_cpu(gy), on_cpu(x), on_cpu(w), c10::OptionalArrayRef<c10::SymInt>(bias), stride, padding, dilation, transposed,
      output_padding, groups, mask);
  auto up = [&](const at::Tensor& t) { return t.defined() ? on_device(t, x.device().index()) : t; };
  return {up(a), up(b), up(c)};
}
// Recurrent cells: torch fuses them on every accelerator, and has no such operation for the CPU.
using Cell = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
at::Tensor biased(const at::Tensor& gates, const Maybe& bias) {
  return bias && bias->defined() ? gates + on_cpu(*bias) : gates;
}
// The kernels of these two on the CPU warn when they write into a result of no dimensions, as a fallback asks of them.
at::Tensor mse_loss(const at::Tensor& x, const at::Tensor& y, int64_t reduction) {
  same_device("aten::mse_loss", x, y, Maybe());
  count(n_ops, "aten::mse_loss");
  return on_device(at::mse_loss(on_cpu(x), on_cpu(y), reduction), x.device().index());
}
at::Tensor smooth_l1_loss(const at::Tensor& x, const at::Tensor& y, int64_t reduction, double beta) {
  same_device("aten::smooth_l1_loss", x, y, Maybe());
  count(n_ops, "aten::smooth_l1_loss");
  return on_device(at::smooth_l1_loss(on_cpu(x), on_cpu(y), reduction, beta), x.device().index());
}
Cell lstm_cell(const at::Tensor& x, const at::Tensor& h, const at::Tensor& c, const Maybe& bx, const Maybe& bh) {
  same_device("aten::_thnn_fused_lstm_cell", x, h, c);
  count(n_ops, "aten::_thnn_fused_lstm_cell");
  auto gates = biased(biased(on_cpu(x) + on_cpu(h), bx), bh).chunk(4, 1);
  auto i = gates[0].sigmoid(), f = gates[1].sigmoid(), g = gates[2].tanh(), o = gates[3].sigmoid();
  auto next = f * on_cpu(c) + i * g;
  int d = x.device().index();
  return {on_device(o * next.tanh(), d), on_device(next, d), on_device(at::cat({i, f, g, o}, 1), d)};
}
Cell lstm_cell_backward(
    const Maybe& grad_h, const Maybe& grad_c, const at::Tensor& c, const at::Tensor& next, const at::Tensor& workspace,
    bool has_bias) {
  count(n_ops, "aten::_thnn_fused_lstm_cell_backward_impl");
  auto gates = on_cpu(workspace).chunk(4, 1);
  auto i = gates[0], f = gates[1], g = gates[2], o = gates[3], t = on_cpu(next).tanh();
  auto gh = grad_h && grad_h->defined() ? on_cpu(*grad_h) : at::zeros_like(t);
  auto gc = gh * o * (1 - t * t);
  if (grad_c && grad_c->defined()) gc = gc + on_cpu(*grad_c);
  auto all = at::cat(
      {gc * g * i * (1 - i), gc * on_cpu(c) * f * (1 - f), gc * i * (1 - g * g), gh * t * o * (1 - o)}, 1);
  int d = c.device().index();
  return {on_device(all, d), on_device(gc * f, d), has_bias ? on_device(all.sum(0), d) : at::Tensor()};
}

std::tuple<at::Tensor, at::Tensor> gru_cell(
    const at::Tensor& x, const at::Tensor& h, const at::Tensor& hx, const Maybe& bx, const Maybe& bh) {
  same_device("aten::_thnn_fused_gru_cell", x, h, hx);
  count(n_ops, "aten::_thnn_fused_gru_cell");
  auto from_input = biased(on_cpu(x), bx).chunk(3, 1), from_hidden = biased(on_cpu(h), bh).chunk(3, 1);
  auto reset = (from_input[0] + from_hidden[0]).sigmoid(), keep = (from_input[1] + from_hidden[1]).sigmoid();
  auto fresh = (from_input[2] + reset * from_hidden[2]).tanh(), before = on_cpu(hx);
  int d = x.device().index();
  return {
      on_device(fresh + keep * (before - fresh), d),
      on_device(at::cat({reset, keep, fresh, before, from_hidden[2]}, 1), d)};
}
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> gru_cell_backward(
    const at::Tensor& grad, const at::Tensor& workspace, bool has_bias) {
  count(n_ops, "aten::_thnn_fused_gru_cell_backward");
  auto parts = on_cpu(workspace).chunk(5, 1);
  auto reset = parts[0], keep = parts[1], fresh = parts[2], before = parts[3], hidden = parts[4], g = on_cpu(grad);
  auto g_keep = g * (before - fresh) * keep * (1 - keep), g_fresh = g * (1 - keep) * (1 - fresh * fresh);
  auto g_reset = g_fresh * hidden * reset * (1 - reset);
  auto g_x = at::cat({g_reset, g_keep, g_fresh}, 1), g_h = at::cat({g_reset, g_keep, g_fresh * reset}, 1);
  int d = grad.device().index();
  auto bias = [&](const at::Tensor& t) { return has_bias ? on_device(t.sum(0), d) : at::Tensor(); };
  return {on_device(g_x, d), on_device(g_h, d), on_device(g * keep, d), bias(g_x), bias(g_h)};
}

at::Tensor csr_times_dense(const at::Tensor& a, const at::Tensor& b) {
  same_device("aten::mm", a, b, std::nullopt);
  count(n_ops, "aten::mm");
  return on_device(at::mm(on_cpu(a).to_sparse(), on_cpu(b)), a.device().index());
}

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>()); }
TORCH_LIBRARY_IMPL(_, SparsePrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>()); }
TORCH_LIBRARY_IMPL(_, SparseCsrPrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>()); }
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", local_scalar);
  m.impl("as_strided", as_strided);
  m.impl("view", view);
  m.impl("_reshape_alias", reshape_alias);
  m.impl("unfold", unfold);
  m.impl("view_as_real", at::native::view_as_real);
  m.impl("view_as_complex", at::native::view_as_complex);
  m.impl("resize_", resize_);
  m.impl("set_.source_Storage_storage_offset", set_storage);
  m.impl("set_.source_Storage", set_whole_storage);
  m.impl("set_.source_Tensor", set_tensor);
  m.impl("set_", set_nothing);
  m.impl("is_set_to", is_set_to);
  m.impl("record_stream", record_stream);
  m.impl("mse_loss", mse_loss);
  m.impl("smooth_l1_loss", smooth_l1_loss);
  m.impl("_thnn_fused_lstm_cell", lstm_cell);
  m.impl("_thnn_fused_lstm_cell_backward_impl", lstm_cell_backward);
  m.impl("_thnn_fused_gru_cell", gru_cell);
  m.impl("_thnn_fused_gru_cell_backward", gru_cell_backward);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
}
// Copies resolve what is lazily conjugated or negated themselves; torch's fallback for that would call them again.
TORCH_LIBRARY_IMPL(aten, Conjugate, m) { m.impl("_copy_from", torch::CppFunction::makeFallthrough()); }
TORCH_LIBRARY_IMPL(aten, Negative, m) { m.impl("_copy_from", torch::CppFunction::makeFallthrough()); }
TORCH_LIBRARY_IMPL(aten, SparsePrivateUse1, m) {
  m.impl("_sparse_coo_tensor_with_dims", at::native::new_with_dims_sparse);
  m.impl("_sparse_coo_tensor_with_dims_and_tensors", at::native::new_with_dims_and_tensor_sparse_symint);
  m.impl("sparse_dim", at::native::sparse_dim_sparse);
  m.impl("dense_dim", at::native::dense_dim_sparse);
  m.impl("_nnz", at::native::_nnz_sparse);
  m.impl("is_coalesced", at::native::is_coalesced_sparse);
  m.impl("_indices", at::native::_indices_sparse);
  m.impl("_values", at::native::_values_sparse);
  m.impl("indices", at::native::indices_sparse);
  m.impl("values", at::native::values_sparse);
  m.impl("_coalesced_", at::native::_coalesced_sparse_);
}
TORCH_LIBRARY_IMPL(aten, SparseCsrPrivateUse1, m) {
  m.impl("mm", csr_times_dense);
  m.impl("_nnz", at::native::_nnz_sparse_csr);
  m.impl("crow_indices", at::native::crow_indices_sparse_csr);
  m.impl("col_indices", at::native::col_indices_sparse_csr);
  m.impl("ccol_indices", at::native::ccol_indices_sparse_csr);
  m.impl("row_indices", at::native::row_indices_sparse_csr);
  m.impl("values", at::native::values_sparse_csr);
  m.impl("sparse_dim", at::native::sparse_dim_sparse_csr);
  m.impl("dense_dim", at::native::dense_dim_sparse_csr);
}

// --- for Python, by ctypes -----------------------------------------------------------------------------------------

extern "C" {
void standin_init() { at::RegisterPrivateUse1HooksInterface(&hooks); }
void standin_reset() {
  std::lock_guard<std::mutex> lock(counting);
  n_ops = n_syncs = n_to_host = n_from_host = 0;
  by_name.clear();
}
void standin_counts(int64_t* out) {
  std::lock_guard<std::mutex> lock(counting);
  out[0] = n_ops, out[1] = n_syncs, out[2] = n_to_host, out[3] = n_from_host;
}
const char* standin_names() {  // one "count name" a line
  static std::string text;
  std::lock_guard<std::mutex> lock(counting);
  text.clear();
  for (const auto& [name, n] : by_name) text += std::to_string(n) + " " + name + "\n";
  return text.c_str();
}
int standin_device_count() { return kDevices; }
int standin_current() { return current; }
void standin_set_current(int device) { current = device; }
void standin_memory(int device, int64_t* out) {
  std::lock_guard<std::mutex> lock(booking);
  out[0] = allocated[device], out[1] = peak[device], out[2] = limit[device];
}
void standin_set_limit(int device, int64_t bytes) {
  std::lock_guard<std::mutex> lock(booking);
  limit[device] = bytes;
}
void standin_reset_peak(int device) {
  std::lock_guard<std::mutex> lock(booking);
  peak[device] = allocated[device];
}
void standin_seed(int device, uint64_t seed) { at::Generator(default_generator(device)).set_current_seed(seed); }
int64_t standin_state_size(int device) { return default_generator(device).get_state().numel(); }
void standin_get_state(int device, void* out) {
  auto state = default_generator(device).get_state();
  memcpy(out, state.const_data_ptr(), state.numel());
}
void standin_set_state(int device, void* from, int64_t n) {
  at::Generator(default_generator(device)).set_state(at::from_blob(from, {n}, at::kByte));
}
void standin_synchronise() { count(n_syncs, "(synchronise)"); }
}
