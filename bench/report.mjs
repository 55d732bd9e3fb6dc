// What the measurements say: medians, ratios, and the targets they are held against.
import { cpus, release, totalmem, type } from 'node:os'

const CEILING_RATIO_MIN = 0.6
const GROWTH_MIB_MAX = 128

/** What xferd has to reach with each load. */
const TARGETS = {
  1: [ofCeiling, fasterThan('rsync -W'), fasterThan('curl -T to nginx')],
  10: [ofCeiling],
  50: [growth],
  tree: [fasterThan('rsync -a')],
}

/** The machine, as far as it explains figures. */
export function machine() {
  return {
    cpus: cpus().length,
    cpu: cpus()[0]?.model.trim(),
    memory_bytes: totalmem(),
    system: `${type()} ${release()}`,
    node: process.version,
  }
}

/** The medians and ratios of a load, from what its race has found out. */
export function summarize({ name, title, clients, bytes }, { entries, leftOut, growthBytes }) {
  const ceiling = ceilingOf(entries.filter(({ contender }) => contender.isCeiling))
  const subject_s = medianOf(entries.find(({ contender }) => contender.isSubject)?.rounds, 'process_s')
  const contenders = entries.map(({ contender, rounds }) => {
    const process_s = medianOf(rounds, 'process_s')
    const process_mb_per_s = process_s && bytes / 1e6 / process_s
    const mb_per_s = medianOf(rounds, 'mb_per_s')
    return {
      name: contender.name,
      version: contender.version,
      process_s,
      process_mb_per_s,
      mb_per_s,
      of_ceiling: ceiling && (mb_per_s ?? process_mb_per_s) / ceiling,
      times_xferds: process_s && process_s / subject_s,
      rounds,
    }
  })
  const measured = { contenders, ceiling_mb_per_s: ceiling, growth_bytes: growthBytes }
  const targets = TARGETS[name].map((judge) => judge(measured))
  return { name, title, clients, bytes, ...measured, targets, left_out: leftOut }
}

/** The median of the best of each round. */
function ceilingOf([first, ...others]) {
  const best = first?.rounds.map(({ mb_per_s }, round) => ({
    mb_per_s: Math.max(mb_per_s, ...others.map(({ rounds }) => rounds[round].mb_per_s)),
  }))
  return medianOf(best, 'mb_per_s')
}

function ofCeiling({ contenders }) {
  const measured = contenders.find(({ name }) => name === 'xferd push')?.of_ceiling
  return {
    target: `at least ${CEILING_RATIO_MIN} of the ceiling`,
    measured,
    met: measured && measured >= CEILING_RATIO_MIN,
  }
}

function fasterThan(peer) {
  return ({ contenders }) => {
    const measured = contenders.find(({ name }) => name === peer)?.times_xferds
    return { target: `${peer} takes longer (times xferd's)`, measured, met: measured && measured > 1 }
  }
}

function growth({ growth_bytes }) {
  const measured = growth_bytes && growth_bytes / 2 ** 20
  return {
    target: `each copy right, the server grows by less than ${GROWTH_MIB_MAX} MiB`,
    measured,
    met: measured && measured < GROWTH_MIB_MAX,
  }
}

/** The whole report as Markdown. */
export function markdown({ machine, rounds, loads }) {
  const memory = (machine.memory_bytes / 2 ** 30).toFixed(0)
  const versions = loads.flatMap(({ contenders }) => contenders.map(({ version }) => version))
  return [
    `Rounds: ${rounds}. ${machine.cpus} × ${machine.cpu}, ${memory} GiB, ${machine.system}, Node ${machine.node}.`,
    `${[...new Set(versions)].filter(Boolean).join(', ')}.`,
    ...loads.map(loadSection),
    targetSection(loads),
  ]
    .filter(Boolean)
    .join('\n\n')
}

function loadSection({ title, contenders, ceiling_mb_per_s, growth_bytes, left_out }) {
  const head = ['', 'process s', 'process MB/s', 'own MB/s', 'of the ceiling', "times xferd's"]
  const rows = contenders.map((row) => [
    row.name,
    fixed(row.process_s, 3),
    fixed(row.process_mb_per_s, 0),
    fixed(row.mb_per_s, 0),
    fixed(row.of_ceiling, 2),
    fixed(row.times_xferds, 2),
  ])
  return [
    `### ${title}`,
    rows.length > 0 && table([head, ...rows]),
    ceiling_mb_per_s && `The ceiling is ${fixed(ceiling_mb_per_s, 0)} MB/s.`,
    growth_bytes && `xferd's server grew by ${fixed(growth_bytes / 2 ** 20, 1)} MiB.`,
    ...left_out.map(({ what, reason }) => `Left out: ${what}, ${reason}.`),
  ]
    .filter(Boolean)
    .join('\n\n')
}

function targetSection(loads) {
  const rows = loads.flatMap(({ title, targets }) =>
    targets.map(({ target, measured, met }) => [
      `${title}: ${target}`,
      fixed(measured, 2),
      met === undefined ? 'not measured' : met ? 'yes' : 'no',
    ]),
  )
  return `### Targets\n\n${table([['', 'measured', 'met'], ...rows])}`
}

/** The first column is text, the others are figures. */
function table(rows) {
  const widths = rows[0].map((_, column) => Math.max(3, ...rows.map((row) => row[column].length)))
  const lines = rows.map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column]))),
  )
  const rule = widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`))
  return [lines[0], rule, ...lines.slice(1)].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

/** Of an even number of rounds the mean of the two in the middle; `undefined` if none has the figure. */
function medianOf(rounds = [], name) {
  const values = rounds.map((round) => round[name]).filter((value) => value !== undefined)
  if (values.length === 0) return undefined
  const sorted = values.toSorted((left, right) => left - right)
  const half = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
}

function fixed(value, digits) {
  return value === undefined ? '' : value.toFixed(digits)
}
