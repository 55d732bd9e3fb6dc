// `npm run bench:check`: holds the counts of this checkout against those that were accepted, and fails if one has grown by
// more than it may. Only counts are judged here, never the clock: `npm run bench:paired` is for that.
import { metricsOf, readBaseline } from './gate/baseline.mjs'
import { baseCommit, build, builtCheckoutOf, ROOT } from './gate/checkout.mjs'
import { differences, fingerprint } from './gate/fingerprint.mjs'
import { groupOf, measure } from './gate/measure.mjs'
import { judge } from './gate/verdict.mjs'
import { killAll } from './processes.mjs'

const ONCE = { callgrind: 1, syscalls: 1, sizes: 1 }
/** What has grown is measured so often again before it is believed. */
const AGAIN = 2

process.on('exit', killAll)
process.on('SIGINT', () => process.exit(130))

const head = build(ROOT)
const reference = await findReference()
if (reference) {
  const measured = await measure(head, ONCE, console.log)
  let findings = judge(reference, measured)
  const suspects = findings.filter(({ verdict }) => verdict === 'worse').map(({ name }) => groupOf(name))
  if (suspects.length > 0) {
    const repeats = Object.fromEntries(suspects.map((group) => [group, AGAIN]))
    const again = await measure(head, repeats, console.log)
    for (const [name, values] of Object.entries(again)) measured[name].push(...values)
    findings = judge(reference, measured)
  }
  print(findings)
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
  console.log(`another ${different.join(', ')} than that of the baseline, so its figures do not compare here`)
  let base
  try {
    const commit = baseCommit()
    if (!commit) {
      console.log('this is the very commit whose figures were accepted: nothing has changed')
      return undefined
    }
    console.log(`compared with commit ${commit.slice(0, 10)}, built and measured here`)
    base = builtCheckoutOf(commit)
  } catch (error) {
    console.log(`inconclusive: there is nothing to compare with: ${error.message}`)
    return undefined
  }
  const measured = metricsOf(await measure(base, ONCE, console.log))
  for (const [name, metric] of Object.entries(measured))
    metric.tolerance = metrics[name]?.tolerance ?? metric.tolerance
  return measured
}

function print(findings) {
  const width = Math.max(...findings.map(({ name }) => name.length))
  for (const { name, base, value, tolerance, verdict } of findings) {
    const figures = [base, value].map((figure) => (figure === undefined ? '-' : figure.toLocaleString('en')))
    const change = tolerance && `${percent(value / base - 1)} of ±${percent(tolerance)}`
    const cells = [
      name.padEnd(width),
      ...figures.map((figure) => figure.padStart(13)),
      (change ?? '').padStart(20),
    ]
    console.log(`${cells.join('  ')}  ${verdict}`)
  }
}

function conclude(findings) {
  const named = (wanted) => findings.filter(({ verdict }) => verdict === wanted).map(({ name }) => name)
  const [worse, better, unknown] = ['worse', 'better', 'new'].map(named)
  if (better.length + unknown.length > 0 && worse.length === 0)
    console.log(
      `better or new: ${[...better, ...unknown].join(', ')}. Hold on to that with npm run bench:accept.`,
    )
  if (worse.length === 0) return
  console.log(
    `worse: ${worse.join(', ')}. Find out why; if it is worth its price: npm run bench:accept -- --reason "…"`,
  )
  process.exitCode = 1
}

function percent(share) {
  return `${(share * 100).toFixed(2)} %`
}
