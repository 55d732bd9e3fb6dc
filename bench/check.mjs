// `npm run bench:check`: holds the counts of this checkout against those that were accepted, and fails if one has grown by
// more than it may. Only counts are judged here, never the clock: `npm run bench:paired` is for that.
import { killAll } from '../cli/bench/processes.mjs'
import { metricsOf, readBaseline } from './gate/baseline.mjs'
import { baseCommit, build, builtCheckoutOf, ROOT } from './gate/checkout.mjs'
import { examine, table, worseIn } from './gate/examine.mjs'
import { differences, fingerprint } from './gate/fingerprint.mjs'
import { GROUPS, measure } from './gate/measure.mjs'

const ALL = Object.keys(GROUPS)
/** How often a base is measured: what it is to be held against is measured as often, if it seems to have grown. */
const BASE_REPEATS = { callgrind: 1, syscalls: 3, sizes: 1 }

process.on('exit', killAll)
process.on('SIGINT', () => process.exit(130))

const head = build(ROOT)
const reference = await findReference()
if (reference) {
  const findings = await examine(head, reference, ALL, console.log)
  console.log(table(findings))
  conclude(findings)
}

/** The accepted metrics; on another kind of machine, those of the base, measured here; `undefined` if nothing compares. */
async function findReference() {
  const { date, reason, fingerprint: accepted, metrics } = readBaseline(ROOT)
  const different = differences(accepted, fingerprint())
  if (different.length === 0) {
    console.log(`compared with what was accepted on ${date}: ${reason}`)
    return metrics
  }
  console.log(`the figures of the baseline do not compare here, which has another ${different.join(', ')}`)
  const base = findBase()
  if (!base) return undefined
  const measured = metricsOf(await measure(base, BASE_REPEATS, console.log))
  // So few have no noise to judge by, and noise was accepted together with the figures.
  for (const [name, metric] of Object.entries(measured))
    metric.tolerance = metrics[name]?.tolerance ?? metric.tolerance
  return measured
}

function findBase() {
  try {
    const commit = baseCommit()
    if (commit) {
      console.log(`compared with commit ${commit.slice(0, 10)} instead, built and measured here`)
      return builtCheckoutOf(commit)
    }
    console.log('nothing has changed since the figures were accepted')
  } catch (error) {
    console.log(`inconclusive, as there is nothing to compare with: ${error.message}`)
  }
  return undefined
}

function conclude(findings) {
  const worse = worseIn(findings)
  const held = findings
    .filter(({ verdict }) => verdict === 'better' || verdict === 'new')
    .map(({ name }) => name)
  if (worse.length > 0) {
    console.log(`worse: ${worse.join(', ')}`)
    console.log('Find out why. If it is worth its price: npm run bench:accept -- --reason "…"')
    process.exitCode = 1
  } else if (held.length > 0) {
    console.log(`better, or new: ${held.join(', ')}`)
    console.log('Hold on to that: npm run bench:accept -- --reason "…"')
  }
}
