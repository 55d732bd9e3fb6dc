// bench/baseline.json: what was accepted, when and why, on which kind of machine.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { median, toleranceOf } from './verdict.mjs'

export const BASELINE = 'bench/baseline.json'

export function readBaseline(checkout) {
  return JSON.parse(readFileSync(join(checkout, BASELINE), 'utf8'))
}

/** Accepts `measured`, values by metric. */
export function writeBaseline(checkout, { date, reason, fingerprint, measured }) {
  writeFileSync(join(checkout, BASELINE), textOf({ date, reason, fingerprint, metrics: metricsOf(measured) }))
}

/** What a later measurement is held against. */
export function metricsOf(measured) {
  return Object.fromEntries(
    Object.entries(measured).map(([name, values]) => [
      name,
      { value: rounded(median(values)), tolerance: toleranceOf(name, values) },
    ]),
  )
}

/** One line for each metric, sorted, so that a change of one is a change of one line. */
export function textOf({ date, reason, fingerprint, metrics }) {
  const lines = Object.entries(metrics)
    .sort(([left], [right]) => (left < right ? -1 : 1))
    .map(
      ([name, { value, tolerance }]) =>
        `    ${JSON.stringify(name)}: { "value": ${value}, "tolerance": ${tolerance} }`,
    )
  const machine = Object.entries(fingerprint)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `    ${JSON.stringify(name)}: ${JSON.stringify(value)}`)
  return `{
  "date": ${JSON.stringify(date)},
  "reason": ${JSON.stringify(reason)},
  "fingerprint": {
${machine.join(',\n')}
  },
  "metrics": {
${lines.join(',\n')}
  }
}
`
}

/** Digits that mean something. */
function rounded(value) {
  return Number(value.toPrecision(6))
}
