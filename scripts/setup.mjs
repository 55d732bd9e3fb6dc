// Makes a checkout ready. Plain Node without dependencies: on a fresh clone there are none yet.
import { spawnSync } from 'node:child_process'
import { lstatSync, statSync } from 'node:fs'

/**
 * Installs what package-lock.json names, unless it is installed already. What a link leads to belongs to another checkout, and npm
 * would empty that.
 */
export function install() {
  if (lstatSync('node_modules', { throwIfNoEntry: false })?.isSymbolicLink()) return
  const locked = statSync('package-lock.json').mtimeMs
  const installed = statSync('node_modules/.package-lock.json', { throwIfNoEntry: false })?.mtimeMs ?? 0
  if (installed < locked) run('npm', ['ci'])
}

/** A machine without a network is not waited for. */
const APT_OPTIONS = ['--quiet', '-o', 'Acquire::Retries=0', '-o', 'Acquire::http::Timeout=10']

/**
 * Installs what the regression gate counts with, the Redis that keys are compared with, and a client of it in another language, where
 * that can be done without asking: as root, from a Debian's packages.
 */
export function installPrograms() {
  const missing = ['valgrind', 'strace', 'redis-server'].filter(
    (program) => spawnSync(program, ['--version']).error,
  )
  if (spawnSync('/usr/bin/python3', ['-c', 'import redis']).status !== 0) missing.push('python3-redis')
  const canInstall = process.getuid?.() === 0 && !spawnSync('apt-get', ['--version']).error
  if (missing.length === 0 || !canInstall) return
  try {
    run('apt-get', [...APT_OPTIONS, 'update'])
    run('apt-get', [...APT_OPTIONS, 'install', '--yes', '--no-install-recommends', ...missing], {
      // Programs to be run, not services.
      RUNLEVEL: '1',
    })
  } catch (error) {
    // Everybody does without, and says what is left out.
    console.error(error.message)
  }
}

/** Builds the addon, the SDK and the command line; quick if nothing has changed. */
export function build() {
  run('npm', ['run', '--silent', 'build'])
}

/** Why servers on this system are not on io_uring, if so. To be asked once everything is built. */
export async function whyNoUring() {
  const { serve } = await import('../dist/index.mjs')
  const server = await serve({ root: import.meta.dirname, listen: ['xfer://127.0.0.1:0'], readOnly: true })
  await server.close()
  return server.backend.name === 'mio' && (server.backend.reason ?? 'XFERD_BACKEND asks for mio')
}

function run(command, args, env = {}) {
  const stdio = ['ignore', process.stderr, process.stderr]
  const { status, error } = spawnSync(command, args, { stdio, env: { ...process.env, ...env } })
  if (error) throw error
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed`)
}
