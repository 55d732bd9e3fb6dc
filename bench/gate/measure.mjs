// All figures of one built checkout.
import * as callgrind from './callgrind.mjs'
import * as sizes from './sizes.mjs'
import * as syscalls from './syscalls.mjs'

/** What is measured together, and the kinds of metric it brings. */
export const GROUPS = {
  callgrind: ['instructions', 'allocated_bytes'],
  syscalls: ['syscalls_per_gib', 'syscalls_per_1000_files', 'syscalls_per_1000_requests', 'fsyncs_per_file'],
  sizes: ['size'],
}

/** The group that a metric is measured in. */
export function groupOf(metric) {
  const [kind] = metric.split('.')
  return Object.keys(GROUPS).find((group) => GROUPS[group].includes(kind))
}

/**
 * Measures as often as `repeats` says for each group and returns lists of values by metric. What can't be measured here is
 * left out, and told.
 */
export async function measure({ checkout, program }, repeats, tell) {
  const counters = {
    callgrind: { ...callgrind, count: () => callgrind.count(program) },
    syscalls: { ...syscalls, count: () => syscalls.count(checkout) },
    sizes: { count: () => sizes.count(checkout) },
  }
  if (!program) counters.callgrind.missing = () => 'that commit does not build the scenarios of this one'
  const measured = {}
  for (const [group, times] of Object.entries(repeats)) {
    const { missing, count } = counters[group]
    const reason = missing?.()
    if (reason) {
      tell(`skipped: ${GROUPS[group].join(', ')}: ${reason}`)
      continue
    }
    for (let time = 0; time < times; time++) {
      for (const [metric, value] of Object.entries(await count())) {
        measured[metric] ??= []
        measured[metric].push(value)
      }
    }
  }
  return measured
}
