"""What the help says beyond options: examples, and what is worth knowing. Nothing here imports anything."""

__all__ = [
    "ABOUT",
    "AFTER_ANALYSE",
    "AFTER_CHECKPOINTS",
    "AFTER_CITE",
    "AFTER_COMPLETION",
    "AFTER_COPY",
    "AFTER_EXPLORE",
    "AFTER_EXPORT",
    "AFTER_MAIN",
    "AFTER_MERGE",
    "AFTER_PLOT",
    "AFTER_REPORT",
    "AFTER_SET_PROPERTY",
    "AFTER_WATCH",
]

ABOUT = "Explore the energy landscapes of PyTorch models: minima, transition states, and what their network says."

AFTER_MAIN = """\
exit codes: 0 done; 2 bad usage or input; interrupted, with everything found so far saved: 130 by Ctrl-C, 143 by
SIGTERM (as schedulers send it), 129 by SIGHUP.
'torchscape COMMAND --help' says more about a command.
"""

AFTER_EXPLORE = """\
what SPEC may be:
  my_model.py:potential    the Potential that this Python file calls 'potential'
  my_model.py:build        a function in it that returns a Potential; it is given device= and dtype= if it
                           takes them and they are asked for here
  digits                   a ready-made problem ('torchscape problems' lists them)
  schwefel:ndim=3          the same, with options

examples:
  torchscape explore digits --db digits.db
  torchscape explore my_model.py:build --db run.db --device cuda --walkers 512 --hops 200 --temperature 0.1
  torchscape explore himmelblau --db h.db --seed 1 --max-quenches 500
  torchscape explore my_model.py:potential --db run.db --strategy connect --neighbours 12
  torchscape explore lj7 --db lj7.db --strategy basin-hopping,connect,climb --searches 500
  torchscape explore my_model.py:build --db run.db --move per-layer:0.8,restart:0.2 --set connect.attempts=3
  torchscape explore digits --db digits.db --executor processes
  torchscape explore --config run.toml --db other.db --seed 7

a configuration file has every option by its name, and strategies as tables in the order in which they take turns;
'torchscape info run.db --toml' writes one of what a run has used:
  spec = "my_model.py:build"
  db = "run.db"
  seed = 1
  [[strategy]]
  name = "basin-hopping"
  walkers = 64
  move = {kind = "PerLayer", floor = 0.2}
  [[strategy]]
  name = "connect"
  band = {max_images = 40}

Running the same command again continues where the last one stopped; Ctrl-C or SIGTERM at any moment keeps
everything found so far. The file belongs to one potential: another one is refused. While it is written, copy it
with 'torchscape copy' only: part of it may be in a log beside it (FILE-wal).
"""

AFTER_COPY = """\
example:
  torchscape copy run.db backup.db

The copy holds everything committed so far, also while 'torchscape explore' writes. Copying the file by other means
misses what is still in the log beside it (run.db-wal); 'torchscape info' of such a copy says so.
"""

AFTER_MERGE = """\
example:
  torchscape merge my_model.py:potential a.db b.db -o both.db
  torchscape merge lj38 PATHSAMPLE_FOLDER -o lj38.db

Points are recognised up to symmetry, and the hits of those in several files are added. 'torchscape explore' goes
on with the result; its strategies begin anew. Points of other programs are converged and verified anew, and what
is not the same is said.
"""

AFTER_CHECKPOINTS = """\
example:
  torchscape checkpoints my_model.py:potential a.pt b.pt c.safetensors --db run.db

Each file is a state dict, by itself or within what a training script saved; only tensors are read. Prefixes of
torch.compile, DataParallel and Lightning are taken off; buffers must be those of the potential. The checkpoints
are quenched, matched up to symmetry, and connected by transition states; the same command again goes on.
"""

AFTER_PLOT = """\
examples:
  torchscape plot digits.db disconnectivity -o tree.png
  torchscape plot lj38.db disconnectivity -o tree.pdf --step 0.2 --style slanted --label 0,1 --width column
  torchscape plot lj38/ disconnectivity -o tree.pdf --dinfo lj38/dinfo
  torchscape plot digits.db network -o network.pdf --colour accuracy
  torchscape plot digits.db profile -o path.svg --between 0,5
  torchscape plot digits.db heat-capacity -o capacity.png --temperature 1e-3:1:200 --lowest 10
  torchscape plot digits.db heat-capacity-trees -o peak.png --temperature 0.02

Minima are numbered by energy, 0 being the lowest, as 'torchscape analyse' does.
"""

AFTER_REPORT = """\
examples:
  torchscape report digits.db -o report.html
  torchscape report digits.db -o report.html --potential digits         # with confusion matrices
  torchscape report run.db -o report.html --potential my_model.py:build --held-out my_model.py:test_data
  torchscape report lj38_pathsample/ -o report.html --lowest 2000 --unit epsilon

One file for any browser, which needs no network: tree, network, table, heat capacity and occupation, barriers,
coverage and run history, all linked. docs/report.md says how to read it.
"""

AFTER_ANALYSE = """\
examples:
  torchscape analyse digits.db --temperature 0.01,0.1
  torchscape analyse digits.db --temperature 1e-3:1:50 --json
  torchscape analyse lj7.db --temperature 0.2 --from 3 --to 0
  torchscape analyse PATHSAMPLE_FOLDER --temperature 0.2   # rates between its min.B and min.A

Minima are numbered by energy, 0 being the lowest, as in 'torchscape info --json'.
"""

AFTER_EXPORT = """\
formats:
  pyg          one file with a torch_geometric.data.Data; read it with torch.load(OUT, weights_only=False), which
               runs whatever a file asks for: do so with files of your own, not with those of strangers
  graphml      one file, for Gephi, Cytoscape, igraph, NetworkX
  csv          a folder with minima.csv and transition_states.csv
  pathsample   a folder with min.data, ts.data, points.min, points.ts; min.A and min.B with --to and --from;
               pathdata and dinfo, where none of your own is there

Files appear when they are whole, those of one folder together. They replace what an earlier export has written,
never a landscape or a file of another kind.

example:
  torchscape export digits.db --format csv -o tables
  torchscape export lj7.db --format pathsample -o lj7 --from 3 --to 0
"""

AFTER_WATCH = """\
examples:
  torchscape watch run.db
  torchscape watch run.db --every 60 >watch.log

Follows until the run ends, or until Ctrl-C, which ends only the watching. In a terminal one line moves; elsewhere
there is a line for every look that finds something new.
"""

AFTER_SET_PROPERTY = """\
examples:
  torchscape set-property run.db accuracy.csv
  torchscape plot run.db disconnectivity -o tree.png --colour accuracy

The table has a header. Its column 'minimum' numbers minima by energy, 0 being the lowest, as 'torchscape analyse'
does; or 'id' has the ids of the file, which never change. Each other column is a property; empty cells leave a
minimum without. A table of 'torchscape export --format csv' with columns added can be read as it is.
"""

AFTER_CITE = """\
examples:
  torchscape cite run.db
  torchscape cite run.db --of heat-capacity,disconnectivity --bibtex >used.bib
  torchscape cite
"""

AFTER_COMPLETION = """\
examples:
  torchscape completion bash >~/.local/share/bash-completion/completions/torchscape
  torchscape completion zsh >~/.zfunc/_torchscape      # a folder of $fpath
  torchscape completion fish >~/.config/fish/completions/torchscape.fish

Needs shtab: pip install 'torchscape[completion]'.
"""
