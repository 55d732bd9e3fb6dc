/** The report as tables, which are Markdown too. */
import type { LoadSummary, Report, Row, Side } from './summary.js'

/** The columns of every table; the first is text, the others are figures. */
export const COLUMNS = [
  'clients',
  'MB',
  'MB/s',
  'of ceiling',
  'workers',
  'server CPU %',
  'server RSS MB',
  'above idle',
  'client CPU %',
  'client RSS MB',
  'avg s',
  'min s',
  'max s',
]

export function cells({ clients, bytes }: LoadSummary, row: Row): string[] {
  return [
    `${clients}`,
    fixed(bytes / 1e6, 1),
    fixed(row.mb_per_s, 0),
    fixed(row.of_ceiling, 2),
    row.threads === undefined ? '' : `${row.threads}`,
    fixed(row.server?.cpu_percent, 0),
    megabytes(row.server, 'peak_bytes'),
    megabytes(row.server, 'grown_bytes'),
    fixed(row.client?.cpu_percent, 0),
    megabytes(row.client, 'peak_bytes'),
    fixed(row.seconds.average, 3),
    fixed(row.seconds.min, 3),
    fixed(row.seconds.max, 3),
  ]
}

export function tables({ loads }: Report): string[] {
  return loads.map((load) => {
    const rows = load.rows.map((row) => [row.name, ...cells(load, row)])
    return `### ${load.title}\n\n${table([['', ...COLUMNS], ...rows])}`
  })
}

/** The machine and the terms of the comparison. */
export function terms({ machine, rounds, digest }: Report): string {
  const memory = (machine.memory_bytes / 1e9).toFixed(0)
  const tcp = machine.congestion_control === undefined ? '' : `, TCP with ${machine.congestion_control}`
  return (
    `Medians of ${rounds} ${rounds === 1 ? 'round' : 'rounds'}, digest ${digest}. ${machine.cores} × ${machine.cpu}, ` +
    `${memory} GB, ${machine.system}, ${machine.file_system}${tcp}, Node ${machine.node}.`
  )
}

/** Rows of cells, the first of which are the columns' names. */
export function table(rows: string[][]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(3, ...rows.map((row) => row[column]?.length ?? 0)),
  )
  const lines = rows.map((row) =>
    row.map((cell, column) =>
      column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
    ),
  )
  const rule = widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`))
  return [lines[0] ?? [], rule, ...lines.slice(1)].map((line) => `| ${line.join(' | ')} |`).join('\n')
}

function megabytes(side: Side | undefined, name: 'peak_bytes' | 'grown_bytes'): string {
  const bytes = side?.[name]
  return fixed(bytes === undefined ? undefined : bytes / 1e6, 1)
}

function fixed(value: number | undefined, digits: number): string {
  return value === undefined ? '' : value.toFixed(digits)
}
