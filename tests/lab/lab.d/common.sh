# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # cache, stage and unfinished are the lab's
# common.sh: messages, children and the cache of the lab. Sourced by ../lab.

say() {
	echo "lab: $*" >&2
}

fail() {
	say "$@"
	exit "$LAB_FAILED"
}

# run_child COMMAND...: runs it so that it can't outlive the lab, whatever ends the lab, and so that a signal to the lab
# is acted upon at once. Bash lets background children ignore Ctrl-C, which is the lab's to handle.
child=
run_child() {
	local status=0
	setpriv --pdeathsig KILL -- "$@" <&0 &
	child=$!
	wait "$child" || status=$?
	child=
	return "$status"
}

# run_apart COMMAND...: the same, with mounts and processes that vanish with it.
run_apart() {
	run_child unshare --mount --pid --fork --kill-child=KILL --propagation private --mount-proc -- "$@"
}

stop_child() {
	if [[ $child ]]; then
		kill -KILL "$child" 2>/dev/null || :
		wait "$child" 2>/dev/null || :
		child=
	fi
}

# One lab at a time builds; `lab run` only holds what it uses (see hold).
lock_cache() {
	mkdir -p "$cache"
	exec {cache_lock}>"$cache/lock"
	if ! flock --nonblock "$cache_lock"; then
		say "waiting for another lab that is building."
		flock "$cache_lock"
	fi
}

unlock_cache() {
	exec {cache_lock}>&-
}

# hold FOLDER: nobody prunes it while this lab lives.
hold() {
	local fd
	exec {fd}<"$1"
	flock --shared "$fd"
}

discard() {
	local folder
	for folder; do
		[[ $folder == "$cache"/?* ]] || fail "won't remove $folder, which is not in the cache."
		[[ ! -e $folder ]] || rm -rf --one-file-system "$folder"
	done
}

# key FILE|FOLDER|=TEXT...: a hash of all that.
key() {
	local input
	for input; do
		case $input in
		=*) echo "$input" ;;
		*) find "$input" -type f -perm /111 -printf 'x %P\n' -o -type f -printf '- %P\n' | LC_ALL=C sort
			find "$input" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | cut -d ' ' -f 1 ;;
		esac
	done | sha256sum | cut -c 1-16
}

# manifest FOLDER [NAME]: what it looks like when it is finished: names, sizes and times of its files, other than NAME.
manifest() {
	(cd "$1" && find . -xdev ! -type d ! -name .manifest ! -path "./${2:-.manifest}" -printf '%p %s %T@\n' | LC_ALL=C sort | sha256sum)
}

# stage NAME KEY PROGRAM ARGUMENT...: makes sure that the cache has a whole folder NAME-KEY and puts its name into
# $stage. The program fills the folder that it's given as last argument; one that was not filled to the end, or
# whose files are not what they were, is made anew.
stage() {
	local name=$1 folder=$cache/$1-$2 new=$cache/new-$1 log=$cache/$1.log since=$SECONDS
	shift 2
	if [[ -d $folder ]]; then
		if [[ $(manifest "$folder") == "$(cat "$folder/.manifest" 2>/dev/null)" ]]; then
			touch "$folder" # it's in use; see prune
			stage=$folder
			return
		fi
		say "$folder is damaged and is made again."
	fi
	discard "$folder" "$new"
	mkdir "$new"
	unfinished=$new
	say "building: $name (log: $log) ..."
	if ! run_apart "$@" "$new" >"$log" 2>&1 </dev/null; then
		tail -n 40 "$log" >&2
		fail "building $name failed; the end of its log is above, all of it in $log."
	fi
	manifest "$new" >"$new/.manifest"
	mv -T "$new" "$folder"
	unfinished=
	say "built: $name, $(du -sh "$folder" | cut -f 1), in $((SECONDS - since)) s."
	stage=$folder
}

# in_use FOLDER: by a lab that runs.
in_use() {
	! flock --nonblock "$1" true
}

# prune NAME COUNT: keeps those that were used last, and what another lab is using.
prune() {
	local folder
	while read -r folder; do
		in_use "$folder" || discard "$folder"
	done < <(find "$cache" -maxdepth 1 -name "$1-*" -printf '%T@ %p\n' | sort -rn | tail -n "+$(($2 + 1))" | cut -d ' ' -f 2-)
}
