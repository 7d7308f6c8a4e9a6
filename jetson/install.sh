#!/bin/sh
# Installs Scanside on a Jetson from the archive in which this file lies: what ../install.sh does, and
# before it what a GPU needs. No network; may be run again.
#
#   sudo jetson/install.sh           install
#   jetson/install.sh --check        look whether all that is needed is there; change nothing
#   sudo jetson/install.sh --uninstall
set -eu
cd "$(dirname "$0")/.."
wrong=0
need() { # what is missing, and the line to type
	printf 'missing   %s\n          %s\n' "$1" "$2"
	wrong=1
}

case ${1:-} in --uninstall) exec ./install.sh --uninstall ;; esac

if [ -r /etc/nv_tegra_release ]; then
	printf 'ok        %s\n' "$(head -n 1 /etc/nv_tegra_release | cut -d, -f1-2)"
else
	need "this is no Jetson: /etc/nv_tegra_release is not there" \
		"Use ./install.sh on a machine of another kind."
fi
if python3 -c 'import tensorrt' 2>/dev/null; then
	printf 'ok        TensorRT %s\n' "$(python3 -c 'import tensorrt; print(tensorrt.__version__)')"
else
	need "TensorRT for Python" "sudo apt-get install -y tensorrt python3-libnvinfer"
fi
for group in video render; do
	getent group $group >/dev/null || need "group $group" "sudo groupadd --system $group"
done
if [ $wrong = 1 ]; then
	./install.sh --check || true
	exit 1
fi
if [ "${1:-}" = --check ]; then exec ./install.sh --check; fi
SCANSIDE_GPU=yes ./install.sh
usermod --append --groups video,render scanside
printf 'next: where the release brings its source, pycuda is built by itself while the box is idle, and\n'
printf '      work starts again then; else by hand (jetson/README.md, step 3). Until then the CPU serves\n'
