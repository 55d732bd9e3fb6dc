// strace on the one thread of a server that touches files: which calls it makes, and what happens to one of them.
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { ended, hasEnded, start, until } from './harness.mjs'

const REACTOR = 'xferd-io-0'

/** What may happen to a call, as `strace --inject` says it. */
export const INJECTIONS = {
  // A call that is entered with a fatal signal is not carried out.
  'killed before': 'signal=KILL',
  // Any other signal waits until the call has returned, and nobody in the server handles this one: it ends the process before
  // the program sees the result, and differs in nothing else from a kill.
  'killed after': 'signal=ALRM',
  EIO: 'error=EIO',
  ENOSPC: 'error=ENOSPC',
}

/** Why nothing can be traced here, or `undefined`. */
export function untraceable() {
  if (process.platform !== 'linux') return 'there is no strace for this system'
  const traced = spawnSync('strace', ['-o', '/dev/null', 'true'], { encoding: 'utf8' })
  if (traced.error) return 'strace is not installed'
  if (traced.status !== 0) return `strace may not trace here: ${traced.stderr.trim()}`
  // Yama: only its parents may attach to a process, unless they are root.
  const scope = spawnSync('cat', ['/proc/sys/kernel/yama/ptrace_scope'], { encoding: 'utf8' }).stdout.trim()
  return process.getuid() === 0 || scope === '' || scope === '0'
    ? undefined
    : 'strace may not attach to a running process here (kernel.yama.ptrace_scope)'
}

/**
 * Traces the reactor of `server`, which has one and no workers, into the file `log`. `injection` says what happens to which call:
 * `{ call, nth, fault }`. The calls are counted from now on.
 */
export async function trace(server, log, injection) {
  const fault = injection && [
    `--inject=${injection.call}:${INJECTIONS[injection.fault]}:when=${injection.nth}`,
  ]
  // Paths of descriptors are shown, and no contents.
  const args = ['-y', '-s', '0', '-o', log, '-p', await reactorOf(server), ...(fault ?? [])]
  const strace = start('strace', args)
  const attached = () => strace.complaints.includes('attached') || hasEnded(strace)
  if (!(await until(attached)) || hasEnded(strace)) throw new Error(`strace: ${strace.complaints}`)
  return {
    /** Lets go of the server, if it still runs, and says what was seen. */
    async calls() {
      strace.kill('SIGINT')
      await ended(strace)
      return callsIn(readFileSync(log, 'utf8'))
    },
  }
}

/** The id of its thread. A thread gives itself its name, so that may take a moment. */
async function reactorOf({ pid }) {
  const isReactor = (id) => {
    try {
      return readFileSync(`/proc/${pid}/task/${id}/comm`, 'utf8').trim() === REACTOR
    } catch (error) {
      // Threads come and go.
      if (error.code === 'ENOENT') return false
      throw error
    }
  }
  let reactor
  const find = () => {
    reactor = readdirSync(`/proc/${pid}/task`).find(isReactor)
    return reactor
  }
  if (!(await until(find))) throw new Error(`the server has no thread ${REACTOR}`)
  return reactor
}

/** The calls of one thread: name, the how manieth of that name, and the line that tells of it. */
export function callsIn(log) {
  const seen = new Map()
  return [...log.matchAll(/^(\w+)\((.*)$/gm)].map(([line, call]) => {
    const nth = (seen.get(call) ?? 0) + 1
    seen.set(call, nth)
    return { call, nth, line }
  })
}
