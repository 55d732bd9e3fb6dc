/** What the rounds of a race amount to. */
import type { Cost, Direction, Figures, Load } from './contender.js'
import type { Machine } from './machine.js'
import type { Entry, LeftOut } from './race.js'

/** Everything a benchmark found out, as `--json` prints it. */
export interface Report {
  machine: Machine
  rounds: number
  digest: string
  loads: LoadSummary[]
  left_out: LeftOut[]
}

export interface LoadSummary {
  title: string
  direction: Direction
  clients: number
  files: number
  bytes: number
  /** The row that the others are compared with. */
  ceiling: string | undefined
  rows: Row[]
}

/** One contender's medians over its rounds. */
export interface Row {
  name: string
  kind: 'xferd' | 'ceiling' | 'peer'
  version?: string | undefined
  threads?: number | undefined
  mb_per_s: number
  /** Its rate over that of the kernel's best way. */
  of_ceiling: number | undefined
  seconds: { median: number; average: number; min: number; max: number }
  server: Side | undefined
  client: Side | undefined
  rounds: Figures[]
}

export interface Side {
  /** Of one core. */
  cpu_percent: number | undefined
  peak_bytes: number | undefined
  grown_bytes: number | undefined
}

export function summarize(
  { title, direction, clients, files, sourceBytes }: Load,
  entries: Entry[],
): LoadSummary {
  const bytes = sourceBytes * clients
  const rows = entries.map((entry) => row(entry, bytes))
  // What was given up after the first round had one lucky turn at most.
  const rounds = Math.max(...rows.map(({ rounds }) => rounds.length))
  const [best] = rows
    .filter((row) => row.kind === 'ceiling' && row.rounds.length === rounds)
    .sort((one, other) => other.mb_per_s - one.mb_per_s)
  for (const row of rows) row.of_ceiling = best && row.mb_per_s / best.mb_per_s
  return { title, direction, clients, files: files * clients, bytes, ceiling: best?.name, rows }
}

function row({ contender: { name, kind, threads }, version, rounds }: Entry, bytes: number): Row {
  const seconds = rounds.map(({ seconds }) => seconds)
  const middle = median(seconds)
  return {
    name,
    kind,
    version,
    threads,
    mb_per_s: bytes / 1e6 / middle,
    of_ceiling: undefined,
    seconds: {
      median: middle,
      average: seconds.reduce((sum, each) => sum + each, 0) / seconds.length,
      min: Math.min(...seconds),
      max: Math.max(...seconds),
    },
    server: side(rounds, ({ server }) => server),
    client: side(rounds, ({ client }) => client),
    rounds,
  }
}

function side(rounds: Figures[], sideOf: (figures: Figures) => Cost | undefined): Side | undefined {
  const costs = rounds.flatMap((figures) => {
    const cost = sideOf(figures)
    return cost ? [{ ...cost, seconds: figures.seconds }] : []
  })
  if (costs.length === 0) return undefined
  const medianOf = (value: (cost: Cost & { seconds: number }) => number | undefined): number | undefined => {
    const values = costs.map(value).filter((value) => value !== undefined)
    return values.length === 0 ? undefined : median(values)
  }
  return {
    cpu_percent: medianOf(({ cpuSeconds, seconds }) => cpuSeconds && (cpuSeconds / seconds) * 100),
    peak_bytes: medianOf(({ peakBytes }) => peakBytes),
    grown_bytes: medianOf(({ grownBytes }) => grownBytes),
  }
}

/** Of an even number the mean of the two in the middle. */
export function median(values: number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  const upper = sorted[sorted.length >> 1] ?? Number.NaN
  const lower = sorted[(sorted.length - 1) >> 1] ?? Number.NaN
  return (lower + upper) / 2
}
