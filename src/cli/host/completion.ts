import { exitCodes } from '../exitCodes.ts';
import type { Verb } from '../verb.ts';

/** Each shell asks `hrun __complete WORDS` for a candidate per line, a tab and what it is; the shell adds files itself. */
const scripts = {
  bash: `# hrun completion for bash: source <(hrun completion bash)
_hrun() {
  local IFS=$'\\n'
  COMPREPLY=($(hrun __complete "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f 1))
}
# Names of images and paths in containers have colons in them.
COMP_WORDBREAKS=\${COMP_WORDBREAKS//:/}
complete -o default -o bashdefault -F _hrun hrun
`,
  zsh: `#compdef hrun
# hrun completion for zsh: source <(hrun completion zsh)
_hrun() {
  local -a candidates
  local line
  while IFS= read -r line; do
    candidates+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
  done < <(hrun __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)
  (( \${#candidates} )) && _describe hrun candidates || _files
}
if [ "$funcstack[1]" = _hrun ]; then _hrun "$@"; else compdef _hrun hrun; fi
`,
  fish: `# hrun completion for fish: hrun completion fish | source
complete -c hrun -a '(set -l words (commandline -opc); hrun __complete $words[2..] (commandline -ct) 2>/dev/null)'
`,
} as const;

export const shells = Object.keys(scripts);

export const completion: Verb = {
  configure() {},

  async run(command, context) {
    const [shell = ''] = command.args;
    const script = new Map<string, string>(Object.entries(scripts)).get(shell);
    if (script === undefined) {
      await context.complain(
        `hrun: no completion for "${shell}"\nhint: the shells are ${shells.join(', ')}\n`,
      );
      return exitCodes.failed;
    }
    await context.print(script);
    return exitCodes.ok;
  },
};
