// Every run, and how it is made short enough for `npm test`.
export const SHORT = {
  'crash-matrix': ['--sample', '12'],
  'kill-loop': ['--rounds', '8'],
  'kv-kill-loop': ['--rounds', '8'],
  'path-races': ['--flips', '5000'],
  'hostile-peers': ['--writers', '50', '--readers', '50', '--silent', '500', '--announcers', '50'],
  'kv-crowd': ['--connections', '1000', '--rounds', '2'],
}
