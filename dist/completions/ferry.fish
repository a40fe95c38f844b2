# SPDX-License-Identifier: MIT
# fish completion for ferry; made by 'ferry completion fish'

function __ferry_remote
    string match -qr '^[\'"]?[^/]*:' -- (commandline -ct)
end

complete -c ferry -f -n __fish_use_subcommand -a register -d 'Makes an account on a server that takes new ones, and logs in'
complete -c ferry -f -n __fish_use_subcommand -a join -d 'Makes an account with an invite, and logs in'
complete -c ferry -f -n __fish_use_subcommand -a login -d 'Logs in with the password, and registers a key of this device'
complete -c ferry -f -n __fish_use_subcommand -a logout -d 'Forgets this device\'s key, here and on the server'
complete -c ferry -f -n __fish_use_subcommand -a whoami -d 'Says who is logged in where, and what is used'
complete -c ferry -f -n __fish_use_subcommand -a put -d 'Sends files, and directories with -r'
complete -c ferry -f -n __fish_use_subcommand -a get -d 'Fetches files, with -r also directories'
complete -c ferry -f -n __fish_use_subcommand -a ls -d 'Lists a directory of the server, \':/\' by default'
complete -c ferry -f -n __fish_use_subcommand -a stat -d 'Says all that is known of a name on the server: type, size, mode, date, hash, and where a link points'
complete -c ferry -f -n __fish_use_subcommand -a mkdir -d 'Makes directories on the server'
complete -c ferry -f -n __fish_use_subcommand -a mv -d 'Renames, or moves into a directory, within one space'
complete -c ferry -f -n __fish_use_subcommand -a rm -d 'Removes files, empty directories, and trees with -r'
complete -c ferry -f -n __fish_use_subcommand -a spaces -d 'Lists the spaces you may enter, your own first'
complete -c ferry -f -n __fish_use_subcommand -a passwd -d 'Changes the password'
complete -c ferry -f -n __fish_use_subcommand -a devices -d 'Lists the devices that may log in without the password, or takes that away from some'
complete -c ferry -f -n __fish_use_subcommand -a profiles -d 'Lists the logins kept here'
complete -c ferry -f -n __fish_use_subcommand -a hash -d 'Prints the hash of a file here or there'
complete -c ferry -f -n __fish_use_subcommand -a explain -d 'Says what a problem\'s code means, and what to do about it'
complete -c ferry -f -n __fish_use_subcommand -a shell -d 'Opens a prompt, as \'ferry\' alone does at a terminal'
complete -c ferry -f -n __fish_use_subcommand -a help -d 'Says how a command is used, or lists all commands'
complete -c ferry -l quiet -s q -d 'say less'
complete -c ferry -l verbose -s v -d 'say more'
complete -c ferry -l json -d 'one JSON object a line on standard output'
complete -c ferry -l as -x -a '(ferry complete-names profiles)' -d 'the login (default: FERRY_PROFILE, or the last)'
complete -c ferry -l password-file -r -F -d 'the password (or FERRY_PASSWORD), not asked'
complete -c ferry -l accept-key -d 'trust a server whose key is not known yet'
complete -c ferry -l new-key -d 'trust a server whose key has changed'
complete -c ferry -l help -s h -d 'this help'
complete -c ferry -l version -d 'the version'
complete -c ferry -n '__fish_seen_subcommand_from register' -f
complete -c ferry -n '__fish_seen_subcommand_from join' -f
complete -c ferry -n '__fish_seen_subcommand_from login' -f
complete -c ferry -n '__fish_seen_subcommand_from logout' -f
complete -c ferry -n '__fish_seen_subcommand_from whoami' -f
complete -c ferry -n '__fish_seen_subcommand_from put' -l recursive -s r -d 'directories and all that is in them'
complete -c ferry -n '__fish_seen_subcommand_from put' -l dry-run -d 'say what would be done, and do nothing'
complete -c ferry -n '__fish_seen_subcommand_from put' -l no-replace -d 'refuse when the name is taken'
complete -c ferry -n '__fish_seen_subcommand_from put' -l if-match -x -d 'only if the server\'s file has this hash'
complete -c ferry -n '__fish_seen_subcommand_from put' -l exclude -x -d 'leave out what matches; the first match decides'
complete -c ferry -n '__fish_seen_subcommand_from put' -l include -x -d 'take what matches, whatever comes later'
complete -c ferry -n '__fish_seen_subcommand_from put' -l level -x -a 'received synced committed' -d 'received, synced or committed (default)'
complete -c ferry -n '__fish_seen_subcommand_from put' -l hash -x -a 'sha256 xxh128' -d 'sha256 (default) or xxh128'
complete -c ferry -n '__fish_seen_subcommand_from put' -l retry -d 'wait for a lost server, and go on by itself'
complete -c ferry -n '__fish_seen_subcommand_from put' -l connections -s j -x -d 'use up to N connections, 1 to 16'
complete -c ferry -n '__fish_seen_subcommand_from put' -n 'not __ferry_remote' -F
complete -c ferry -n '__fish_seen_subcommand_from put' -n __ferry_remote -f -a '(ferry complete-names remote -- (string unescape -- (commandline -ct)) 2>/dev/null)'
complete -c ferry -n '__fish_seen_subcommand_from get' -l recursive -s r -d 'directories and all that is in them'
complete -c ferry -n '__fish_seen_subcommand_from get' -l dry-run -d 'say what would be done, and do nothing'
complete -c ferry -n '__fish_seen_subcommand_from get' -l no-replace -d 'refuse when the name is taken'
complete -c ferry -n '__fish_seen_subcommand_from get' -l if-match -x -d 'only if the server\'s file has this hash'
complete -c ferry -n '__fish_seen_subcommand_from get' -l exclude -x -d 'leave out what matches; the first match decides'
complete -c ferry -n '__fish_seen_subcommand_from get' -l include -x -d 'take what matches, whatever comes later'
complete -c ferry -n '__fish_seen_subcommand_from get' -l hash -x -a 'sha256 xxh128' -d 'sha256 (default) or xxh128'
complete -c ferry -n '__fish_seen_subcommand_from get' -l retry -d 'wait for a lost server, and go on by itself'
complete -c ferry -n '__fish_seen_subcommand_from get' -l connections -s j -x -d 'use up to N connections, 1 to 16'
complete -c ferry -n '__fish_seen_subcommand_from get' -n 'not __ferry_remote' -F
complete -c ferry -n '__fish_seen_subcommand_from get' -n __ferry_remote -f -a '(ferry complete-names remote -- (string unescape -- (commandline -ct)) 2>/dev/null)'
complete -c ferry -n '__fish_seen_subcommand_from ls' -l recursive -s r -d 'directories and all that is in them'
complete -c ferry -n '__fish_seen_subcommand_from ls' -l all -s a -d 'nothing more: names with a dot are always shown'
complete -c ferry -n '__fish_seen_subcommand_from ls' -l long -s l -d 'mode, size, date, and where links point'
complete -c ferry -n '__fish_seen_subcommand_from ls' -l sort -x -a 'name size time' -d 'name, size or time; largest and newest first'
complete -c ferry -n '__fish_seen_subcommand_from ls' -l reverse -d 'the other way round'
complete -c ferry -n '__fish_seen_subcommand_from ls' -f -a '(ferry complete-names remote -- (string unescape -- (commandline -ct)) 2>/dev/null)'
complete -c ferry -n '__fish_seen_subcommand_from stat' -f -a '(ferry complete-names remote -- (string unescape -- (commandline -ct)) 2>/dev/null)'
complete -c ferry -n '__fish_seen_subcommand_from mkdir' -l parents -s p -d 'the directories above too; it may exist already'
complete -c ferry -n '__fish_seen_subcommand_from mkdir' -f -a '(ferry complete-names remote -- (string unescape -- (commandline -ct)) 2>/dev/null)'
complete -c ferry -n '__fish_seen_subcommand_from mv' -l no-replace -d 'refuse when the name is taken'
complete -c ferry -n '__fish_seen_subcommand_from mv' -f -a '(ferry complete-names remote -- (string unescape -- (commandline -ct)) 2>/dev/null)'
complete -c ferry -n '__fish_seen_subcommand_from rm' -l recursive -s r -d 'directories and all that is in them'
complete -c ferry -n '__fish_seen_subcommand_from rm' -l force -s f -d 'ask nothing, and pass over what does not exist'
complete -c ferry -n '__fish_seen_subcommand_from rm' -l dry-run -d 'say what would be done, and do nothing'
complete -c ferry -n '__fish_seen_subcommand_from rm' -f -a '(ferry complete-names remote -- (string unescape -- (commandline -ct)) 2>/dev/null)'
complete -c ferry -n '__fish_seen_subcommand_from spaces' -f
complete -c ferry -n '__fish_seen_subcommand_from passwd' -f
complete -c ferry -n '__fish_seen_subcommand_from devices' -f -a 'remove'
complete -c ferry -n '__fish_seen_subcommand_from profiles' -f -a 'default remove'
complete -c ferry -n '__fish_seen_subcommand_from hash' -l hash -x -a 'sha256 xxh128' -d 'sha256 (default) or xxh128'
complete -c ferry -n '__fish_seen_subcommand_from hash' -n 'not __ferry_remote' -F
complete -c ferry -n '__fish_seen_subcommand_from hash' -n __ferry_remote -f -a '(ferry complete-names remote -- (string unescape -- (commandline -ct)) 2>/dev/null)'
complete -c ferry -n '__fish_seen_subcommand_from explain' -f -a '(ferry complete-names codes)'
complete -c ferry -n '__fish_seen_subcommand_from shell' -f
complete -c ferry -n '__fish_seen_subcommand_from help' -f -a 'register join login logout whoami put get ls stat mkdir mv rm spaces passwd devices profiles hash explain shell help'
