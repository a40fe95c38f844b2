# SPDX-License-Identifier: MIT
# bash completion for ferry; made by 'ferry completion bash'

# The word at the cursor without its quotes: cur; where it begins: start;
# the quote it is in: quote
_ferry_word() {
    local i c
    cur= start=0 quote=
    for ((i = 0; i < ${#line}; i++)); do
        c=${line:i:1}
        if [[ $c == \\ && $quote != \' ]]; then
            i=$((i + 1))
            cur+=${line:i:1}
        elif [[ $quote ]]; then
            if [[ $c == "$quote" ]]; then quote=; else cur+=$c; fi
        elif [[ $c == [\'\"] ]]; then
            quote=$c
        elif [[ $c == [[:space:]] ]]; then
            cur= start=$((i + 1))
        else
            cur+=$c
        fi
    done
}

_ferry_add() {
    local name trim=
    # bash takes a word behind a colon for one of its own
    [[ ! $quote && $COMP_WORDBREAKS == *:* && $cur == *:* ]] && trim=${cur%"${cur##*:}"}
    while IFS= read -r name; do
        case $name in
        */) compopt -o nospace 2>/dev/null ;;
        esac
        name=${name#"$trim"}
        case $quote in
        \') [[ $name == *\'* ]] && continue ;;
        \") name=${name//\\/\\\\} name=${name//\$/\\$} name=${name//\`/\\\`} name=${name//\"/\\\"} ;;
        *) [[ $name ]] && printf -v name %q "$name" ;;
        esac
        COMPREPLY+=("$name")
    done
}

_ferry() {
    local line=${COMP_LINE:0:COMP_POINT} cur start quote command= previous= word words= kind= options= skip=
    _ferry_word
    COMPREPLY=()
    local -a before
    read -ra before <<<"${line:0:start}"
    for word in "${before[@]:1}"; do
        previous=$word
        [[ $skip ]] && { skip=; continue; }
        case $word in
        --sort | --if-match | --exclude | --include | --level | --hash | --connections | -j | --as | --password-file) skip=1 ;;
        -*) ;;
        *) [[ $command ]] || command=$word ;;
        esac
    done
    case $command in
    register) kind=none words='' options='' ;;
    join) kind=none words='' options='' ;;
    login) kind=none words='' options='' ;;
    logout) kind=none words='' options='' ;;
    whoami) kind=none words='' options='' ;;
    put) kind=both words='' options='--recursive -r --dry-run --no-replace --if-match --exclude --include --level --hash --retry --connections -j' ;;
    get) kind=both words='' options='--recursive -r --dry-run --no-replace --if-match --exclude --include --hash --retry --connections -j' ;;
    ls) kind=remote words='' options='--recursive -r --all -a --long -l --sort --reverse' ;;
    stat) kind=remote words='' options='' ;;
    mkdir) kind=remote words='' options='--parents -p' ;;
    mv) kind=remote words='' options='--no-replace' ;;
    rm) kind=remote words='' options='--recursive -r --force -f --dry-run' ;;
    spaces) kind=none words='' options='' ;;
    uploads) kind=words words='drop' options='' ;;
    passwd) kind=none words='' options='' ;;
    devices) kind=words words='remove' options='' ;;
    profiles) kind=words words='default remove' options='' ;;
    hash) kind=both words='' options='--hash' ;;
    explain) kind=codes words='' options='' ;;
    shell) kind=none words='' options='' ;;
    help) kind=command words='' options='' ;;
    completion) kind=words words='bash zsh fish' options='' ;;
    '') kind=command ;;
    esac
    [[ $skip ]] && case $previous in
    --sort) kind=values words='name size time' ;;
    --if-match) kind=none words='' ;;
    --exclude) kind=none words='' ;;
    --include) kind=none words='' ;;
    --level) kind=values words='received synced committed' ;;
    --hash) kind=values words='sha256 xxh128' ;;
    --connections | -j) kind=none words='' ;;
    --as) kind=profiles words='' ;;
    --password-file) kind=local words='' ;;
    esac
    if [[ ! $skip && $cur == -* ]]; then
        options+=' --quiet -q --verbose -v --json --as --password-file --accept-key --new-key --help -h --version'
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
        return
    fi
    case $kind in
    command) COMPREPLY=($(compgen -W 'register join login logout whoami put get ls stat mkdir mv rm spaces uploads passwd devices profiles hash explain shell help completion' -- "$cur")) ;;
    words | values) COMPREPLY=($(compgen -W "$words" -- "$cur")) ;;
    local) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    both)
        if [[ ${cur%%/*} == *:* ]]; then
            _ferry_add < <(ferry complete-names remote -- "$cur" 2>/dev/null)
        else
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi ;;
    remote | codes | profiles)
        _ferry_add < <(ferry complete-names $kind -- "$cur" 2>/dev/null) ;;
    esac
}
complete -F _ferry ferry
