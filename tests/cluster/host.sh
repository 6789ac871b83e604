#!/usr/bin/env bash
# One host of the lab: a root of its own over this machine's files, in the namespaces that
# tests/cluster/lab.py starts this in.
#
#   host.sh NAME SHARED REPOSITORY PYTHON KEYS COMMAND...
#
# Whatever the host writes is in a tmpfs and ends with it. The PID namespace matters: `ray stop`
# kills every Ray process that it sees.
set -euo pipefail
name=$1 shared=$2 repository=$3 python=$4 keys=$5
shift 5

mount --make-rprivate /
hostname "$name"
# on /mnt, since the upper folder of an overlay must not be inside the lower one
mount -t tmpfs -o size=3g tmpfs /mnt
root=/mnt/root
mkdir /mnt/upper /mnt/work "$root"
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work "$root"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o size=4g tmpfs "$root/dev/shm"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
for folder in tmp run root home; do mount -t tmpfs -o size=1g tmpfs "$root/$folder"; done
chmod 1777 "$root/tmp"
mkdir -p "$root/shared" "$root/run/sshd" "$root$repository/.venv" "$root$python"
mount --bind "$shared" "$root/shared"
mount --bind "$python" "$root$python" # it can be below /root, as with pyenv
mount -o remount,bind,ro "$root$python"
chmod a+x "$root/root"

# Every host knows every name, and asks no server for others: each unanswered question takes 10 s.
cp "$keys/hosts" "$root/etc/hosts"
: >"$root/etc/resolv.conf"

# .venv at its own path, because its scripts name that path; the repository itself is the client's
if [ "$name" = client ]; then
  mount --rbind "$repository" "$root$repository"
  home=$root$(getent passwd "$(id -u)" | cut -d: -f6)
  install -d -m 700 "$home/.ssh"
  install -m 600 "$keys/login" "$home/.ssh/id_ed25519"
else
  chroot "$root" useradd --create-home --shell /bin/bash --password '*' ubuntu
  home=$root/home/ubuntu
  # make setup finds its environment there, finished: nothing is installed again
  install -d "$home/.ssh" "$home/forkdiv/.venv"
  install -m 600 "$keys/login.pub" "$home/.ssh/authorized_keys"
  chroot "$root" chown -R ubuntu: /home/ubuntu
  for place in "$root$repository/.venv" "$home/forkdiv/.venv"; do
    mount --bind "$repository/.venv" "$place"
    mount -o remount,bind,ro "$place"
  done
fi
ip link set lo up
exec chroot "$root" "$@"
