// Makes a checkout ready. Plain Node without dependencies: on a fresh clone there are none yet.
import { spawnSync } from 'node:child_process'
import { statSync } from 'node:fs'

/** Installs what package-lock.json names, unless it is installed already. */
export function install() {
  const locked = statSync('package-lock.json').mtimeMs
  const installed = statSync('node_modules/.package-lock.json', { throwIfNoEntry: false })?.mtimeMs ?? 0
  if (installed < locked) run('npm', ['ci'])
}

/** Builds the addon, the SDK and the command line; quick if nothing has changed. */
export function build() {
  run('npm', ['run', '--silent', 'build'])
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, { stdio: ['ignore', process.stderr, process.stderr] })
  if (error) throw error
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed`)
}
