// `npm run bench:gate-test`: proves that the gate sees what it is for. The last commit is built once more with each of
// gate/defects/, and each has to turn the metrics red that are named here; without a defect none may be red.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { killAll } from '../cli/bench/processes.mjs'
import { metricsOf, readBaseline } from './gate/baseline.mjs'
import { addCheckout, BENCH, BUILD_FOLDER, build, git, gitIn, ROOT } from './gate/checkout.mjs'
import { examine, table, worseIn } from './gate/examine.mjs'
import { measure } from './gate/measure.mjs'

const DEFECTS = {
  'added-copy': { group: 'callgrind', red: ['allocated_bytes.push_64_kib', 'instructions.push_64_kib'] },
  'added-fsync': { group: 'syscalls', red: ['fsyncs_per_file.server.push'] },
}

process.on('exit', killAll)
process.on('SIGINT', () => process.exit(130))

const checkout = join(BENCH, 'defect')
addCheckout(checkout, git('rev-parse', 'HEAD'))
const sound = build(checkout, BUILD_FOLDER)
const { metrics: accepted } = readBaseline(ROOT)
const reference = metricsOf(await measure(sound, { callgrind: 1, syscalls: 3 }, refuse))
for (const [name, metric] of Object.entries(reference))
  metric.tolerance = accepted[name]?.tolerance ?? metric.tolerance

await prove('no defect', sound, ['callgrind', 'syscalls'], [])
for (const [name, { group, red }] of Object.entries(DEFECTS)) {
  // Little context is asked for, lest every change nearby makes the defect a stranger.
  gitIn(checkout, 'apply', '-C1', join(import.meta.dirname, `gate/defects/${name}.patch`))
  await prove(name, build(checkout, BUILD_FOLDER), [group], red)
  gitIn(checkout, 'checkout', '--', '.')
}
rmSync(checkout, { recursive: true })
git('worktree', 'prune')

async function prove(name, built, groups, expected) {
  const findings = await examine(built, reference, groups, refuse)
  const measured = findings.filter(({ verdict }) => verdict !== 'unmeasured')
  console.log(`\n${name}\n${table(measured)}`)
  const red = worseIn(findings)
  const isRight = expected.length === 0 ? red.length === 0 : expected.every((metric) => red.includes(metric))
  console.log(`${isRight ? 'ok' : 'FAILED'}: ${name} turns ${red.join(', ') || 'nothing'} red`)
  if (!isRight) process.exitCode = 1
}

function refuse(notice) {
  throw new Error(`${notice}; the gate can't be tested without`)
}
