// `npm run bench:accept -- --reason "…"`: makes what this checkout counts the baseline of `npm run bench:check`.
import { parseArgs } from 'node:util'
import { killAll } from '../cli/bench/processes.mjs'
import { BASELINE, writeBaseline } from './gate/baseline.mjs'
import { build, ROOT } from './gate/checkout.mjs'
import { fingerprint } from './gate/fingerprint.mjs'
import { measure } from './gate/measure.mjs'

const REPEATS = { callgrind: 3, syscalls: 5, sizes: 1 }

process.on('exit', killAll)
process.on('SIGINT', () => process.exit(130))

const reason = readReason()
if (!reason) {
  console.error('say why: npm run bench:accept -- --reason "batches of small files need a larger buffer"')
  process.exit(2)
}
const head = build(ROOT)
let incomplete = false
const measured = await measure(head, REPEATS, (notice) => {
  console.error(notice)
  incomplete = true
})
if (incomplete) {
  console.error(`${BASELINE} stays as it is: a baseline holds every metric`)
  process.exit(1)
}
const date = new Date().toISOString().slice(0, 10)
writeBaseline(ROOT, { date, reason, fingerprint: fingerprint(), measured })
console.log(`${BASELINE} holds ${Object.keys(measured).length} metrics; commit it with the change it is for`)

function readReason() {
  try {
    return parseArgs({ options: { reason: { type: 'string' } } }).values.reason?.trim()
  } catch (error) {
    console.error(error.message)
    return undefined
  }
}
