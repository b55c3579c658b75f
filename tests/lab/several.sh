#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# several.sh SCRIPT...: scripts from beside it, one after the other in one boot, and how long each took. Each leaves the
# host as it was. With options of its own a script is one word: 'guard.sh --hooks=no'.

cd "${BASH_SOURCE[0]%/*}" || exit
result=0
for script; do
	echo "== $script"
	since=$SECONDS
	read -ra words <<<"$script"
	status=0
	"./${words[0]}" "${words[@]:1}" || status=$? result=1
	echo "== $script took $((SECONDS - since)) s"
	if [[ $status == 0 ]]; then
		echo "ok - $script ended well"
	else
		echo "not ok - $script ended with exit status $status"
	fi
done
exit $result
