// The gate's question, and how its answer is told: has something grown by more than it may?
import { groupOf, measure } from './measure.mjs'
import { judge } from './verdict.mjs'

/** What has grown is measured so often again before that is believed: a scheduler has bad moments, too. */
const AGAIN = 2

/** Measures `head` once, what has grown again, and returns the findings of {@link judge}. */
export async function examine(head, reference, groups, tell) {
  const measured = await measure(head, Object.fromEntries(groups.map((group) => [group, 1])), tell)
  const findings = judge(reference, measured)
  const suspects = new Set(worseIn(findings).map(groupOf))
  if (suspects.size === 0) return findings
  const again = await measure(head, Object.fromEntries([...suspects].map((group) => [group, AGAIN])), tell)
  for (const [name, values] of Object.entries(again)) measured[name].push(...values)
  return judge(reference, measured)
}

/** The names of the metrics that have grown by more than they may. */
export function worseIn(findings) {
  return findings.filter(({ verdict }) => verdict === 'worse').map(({ name }) => name)
}

/** One line for each finding. */
export function table(findings) {
  const width = Math.max(...findings.map(({ name }) => name.length))
  const lines = findings.map(({ name, base, value, tolerance, verdict }) => {
    const figures = [base, value].map((figure) => (figure === undefined ? '-' : figure.toLocaleString('en')))
    const change =
      tolerance === undefined || base === 0 ? '' : `${percent(value / base - 1)} of ±${percent(tolerance)}`
    const cells = [name.padEnd(width), ...figures.map((figure) => figure.padStart(13)), change.padStart(22)]
    return `${cells.join('  ')}  ${verdict}`
  })
  return lines.join('\n')
}

function percent(share) {
  return `${(share * 100).toFixed(2)} %`
}
