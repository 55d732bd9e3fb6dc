/** Measures key-value stores in turns, and says what the turns amount to. */
import { type KvLoadFigures, type KvLoadOptions, measureKv } from '../../src/index.js'
import { median } from '../bench/summary.js'
import { table } from '../bench/table.js'

/** A store, and what it is asked. */
export interface Contender {
  address: string
  options: KvLoadOptions
}

/** Everything a benchmark found out, as `--json` prints it. */
export interface Report {
  stores: Row[]
  /** The first store's medians over the second's. */
  ratios?: Medians
}

const LATENCIES = ['mean_ms', 'p50_ms', 'p95_ms', 'p99_ms', 'p999_ms', 'max_ms'] as const
const MEDIANS = ['requests_per_second', ...LATENCIES] as const
const COUNTS = ['requests', 'errors', 'misses', 'unsent'] as const

type Medians = Record<(typeof MEDIANS)[number], number>
type Counts = Record<(typeof COUNTS)[number], number>

/** What came of one turn. */
export interface Round extends Medians, Counts {
  first_error?: string
  seconds: number
  /** How many requests took less than so long, and no less than half of it. */
  histogram: { below_ms: number; count: number }[]
}

/** One store's medians over its rounds; counts are sums. */
export interface Row extends Medians, Counts {
  address: string
  first_error?: string
  rounds: Round[]
}

/** All take turns: forwards in one round, in reverse in the next, so that neither always comes first. */
export async function take(
  contenders: Contender[],
  rounds: number,
  tell: (line: string) => void,
): Promise<Report> {
  const taken = contenders.map((): Round[] => [])
  for (let number = 0; number < rounds; number++) {
    const turns = [...contenders.entries()]
    for (const [index, { address, options }] of number % 2 === 0 ? turns : turns.reverse()) {
      if (rounds > 1 || contenders.length > 1) tell(`round ${number + 1} of ${rounds}: ${address}`)
      taken[index]?.push(round(await measureKv(address, options)))
    }
  }
  const stores = contenders.map(({ address }, index) => row(address, taken[index] ?? []))
  const [one, other] = stores
  return one && other ? { stores, ratios: each(MEDIANS, (name) => one[name] / other[name]) } : { stores }
}

function round(figures: KvLoadFigures): Round {
  const { requests, errors, misses, unsent, seconds, firstError } = figures
  return {
    requests_per_second: figures.requestsPerSecond,
    mean_ms: figures.meanMs,
    p50_ms: figures.p50Ms,
    p95_ms: figures.p95Ms,
    p99_ms: figures.p99Ms,
    p999_ms: figures.p999Ms,
    max_ms: figures.maxMs,
    requests,
    errors,
    ...(firstError === undefined ? {} : { first_error: firstError }),
    misses,
    unsent,
    seconds,
    histogram: figures.histogram.map(({ belowMs, count }) => ({ below_ms: belowMs, count })),
  }
}

function row(address: string, rounds: Round[]): Row {
  const first_error = rounds.find(({ first_error }) => first_error !== undefined)?.first_error
  return {
    address,
    ...each(MEDIANS, (name) => median(rounds.map((round) => round[name]))),
    ...each(COUNTS, (name) => rounds.reduce((sum, round) => sum + round[name], 0)),
    ...(first_error === undefined ? {} : { first_error }),
    rounds,
  }
}

function each<Name extends string>(
  names: readonly Name[],
  value: (name: Name) => number,
): Record<Name, number> {
  return Object.fromEntries(names.map((name) => [name, value(name)])) as Record<Name, number>
}

/** As a table, which is Markdown too. */
export function shown({ stores, ratios }: Report): string {
  const heads = ['', 'requests/s', 'mean ms', 'p50', 'p95', 'p99', 'p99.9', 'max']
  const rows = stores.map((row) => [
    row.address,
    row.requests_per_second.toFixed(0),
    ...LATENCIES.map((name) => row[name].toFixed(3)),
  ])
  const ratio = ratios ? [['ratio', ...MEDIANS.map((name) => ratios[name].toFixed(2))]] : []
  return table([heads, ...rows, ...ratio])
}

/** How many requests took how long: a line for each step, which is twice as long as the one before. */
export function histogram({ histogram, requests, unsent }: Round): string {
  const all = Math.max(requests + unsent, 1)
  const most = Math.max(...histogram.map(({ count }) => count), 1)
  const lines = histogram.map(({ below_ms, count }) => {
    const bar = '█'.repeat(Math.ceil((count / most) * BAR_CELLS))
    const share = ((count / all) * 100).toFixed(2)
    return `${`< ${below_ms.toFixed(3)}`.padStart(12)} ms ${share.padStart(6)} % ${bar}`.trimEnd()
  })
  return lines.join('\n')
}

const BAR_CELLS = 50
