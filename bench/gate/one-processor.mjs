// What runs a program on one processor, where there is little to schedule: the first that this process may use.
import { readFileSync } from 'node:fs'
import { find } from '../../cli/bench/processes.mjs'

/** The beginning of a command; empty where that can't be had. */
export const ON_ONE_PROCESSOR =
  find('taskset') && process.platform === 'linux' ? ['taskset', '-c', first()] : []

function first() {
  return /^Cpus_allowed_list:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
}
