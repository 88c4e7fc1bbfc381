"""ray.init() takes the place of a program's own handler of SIGTERM, and ray.shutdown() does not give it back."""

import importlib.metadata
import signal
import sys

import ray


def save_and_end(number, frame):
    raise SystemExit(128 + number)


def owner(one):
    handler = signal.getsignal(one)
    return "the program's" if handler is save_and_end else f"another: {handler}"


def main() -> int:
    print({"ray": importlib.metadata.version("ray")})
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, save_and_end)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    during = owner(signal.SIGTERM), owner(signal.SIGINT)
    ray.shutdown()
    after = owner(signal.SIGTERM)
    print("SIGTERM while Ray runs:", during[0])
    print("SIGINT while Ray runs: ", during[1])
    print("SIGTERM after shutdown:", after)
    same = during[0] != "the program's" and during[1] == "the program's"
    print("as it was" if same else "changed")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
