/** Charts as SVG. They are drawn for the width of a phone and scaled from there. */
import { DISCARD } from './kernel.js'
import type { LoadSummary, Report, Row } from './summary.js'

const WIDTH = 420
const LINE = 22
/** Where bars begin, and where the longest ends: names before, figures behind. */
const BARS_FROM = 148
const BARS_TO = 332
const PLOT = { left: 48, right: WIDTH - 12, top: 10, height: 150 }
/** Colours and dashes of rows of one kind, in turn. Names and dashes tell apart what colours do not. */
const SHADES = 4
const DASHES = ['none', '7 3', '2 3', '10 3 2 3']

/** Colours of charts and pages, light and dark. Each has a contrast of at least 4.5 to its paper. */
export const COLOURS = `
:root { --paper: #ffffff; --ink: #1b2026; --quiet: #57606a; --rule: #d5dae0; --ceiling: #6b7280;
  --xferd-0: #0b62c4; --xferd-1: #0a7466; --xferd-2: #7a3fc0; --peer-0: #a84a06; --peer-1: #a3235f; --peer-2: #6a5d00;
  --peer-3: #4a5a2a; --xferd-3: #1f6f8b }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6e9ec; --quiet: #a5afba; --rule: #353d47; --ceiling: #98a2b0;
  --xferd-0: #62adff; --xferd-1: #3cc9b5; --xferd-2: #c39bff; --peer-0: #f0a34a; --peer-1: #ff8fbe; --peer-2: #d9c64a;
  --peer-3: #b5cf86; --xferd-3: #7fd0ea } }
`

const TEXT = `
.chart { font: 13px system-ui, sans-serif; fill: var(--ink) }
.chart text { paint-order: stroke; stroke: var(--paper); stroke-width: 3px }
.chart .quiet { fill: var(--quiet) }
.chart .group { font-weight: 600 }
.chart .rule { stroke: var(--rule) }
.chart .limit { stroke: var(--ceiling); stroke-dasharray: 3 3 }
.chart .line { fill: none; stroke-width: 2 }
`

export const STYLE = COLOURS + TEXT

/** A file of its own. */
export function svgFile(report: Report): string {
  const { svg, height } = bars(report)
  const paper = `<style>${STYLE}</style><rect width="${WIDTH}" height="${height}" style="fill: var(--paper)"/>`
  return svg
    .replace('<title>', `${paper}<title>`)
    .replace('<svg ', '<svg xmlns="http://www.w3.org/2000/svg" ')
}

/** Throughput of each load: a bar for each row, and a dashed line at the ceiling. */
export function barChart(report: Report): string {
  return bars(report).svg
}

function bars({ loads }: Report): { svg: string; height: number } {
  const most = Math.max(1, ...loads.flatMap(shown).map(({ mb_per_s }) => mb_per_s))
  const x = (rate: number): number => round(BARS_FROM + (rate / most) * (BARS_TO - BARS_FROM))
  let y = 6
  const parts = loads.map((load) => {
    const rows = shown(load)
    const ceiling = rows.find(({ name }) => name === load.ceiling)
    const top = y + LINE
    const lines = rows.map((row, index) => {
      const at = top + index * LINE
      const figure = `${Math.round(row.mb_per_s).toLocaleString('en')} MB/s`
      return (
        `<text x="${BARS_FROM - 6}" y="${at + 15}" text-anchor="end">${escapeText(row.name)}</text>` +
        `<rect x="${BARS_FROM}" y="${at + 4}" width="${round(x(row.mb_per_s) - BARS_FROM)}" height="14" style="fill: ${colour(row, rows)}"/>` +
        `<text x="${x(row.mb_per_s) + 5}" y="${at + 15}">${figure}</text>`
      )
    })
    y = top + rows.length * LINE + 10
    const limit =
      ceiling &&
      `<line class="limit" x1="${x(ceiling.mb_per_s)}" x2="${x(ceiling.mb_per_s)}" y1="${top}" y2="${y - 10}"/>`
    return `<text class="group" x="4" y="${top - 6}">${escapeText(load.title)}</text>${limit ?? ''}${lines.join('')}`
  })
  return { svg: chart('Throughput, in MB/s', y, parts.join('')), height: y }
}

/** How the rate of one load went from round to round. */
export function trendChart(load: LoadSummary): string {
  const rows = shown(load)
  const rates = rows.map((row) => row.rounds.map(({ seconds }) => load.bytes / 1e6 / seconds))
  const most = nice(Math.max(...rates.flat()))
  const rounds = Math.max(...rates.map(({ length }) => length))
  const x = (index: number): number => round(PLOT.left + ((index + 0.5) / rounds) * (PLOT.right - PLOT.left))
  const y = (rate: number): number => round(PLOT.top + (1 - rate / most) * PLOT.height)
  const grid = [0, most / 2, most].map(
    (rate) =>
      `<line class="rule" x1="${PLOT.left}" x2="${PLOT.right}" y1="${y(rate)}" y2="${y(rate)}"/>` +
      `<text class="quiet" x="${PLOT.left - 6}" y="${y(rate) + 4}" text-anchor="end">${rate.toLocaleString('en')}</text>`,
  )
  const foot = PLOT.top + PLOT.height + 18
  const ends = rounds === 1 ? [0] : [0, rounds - 1]
  const numbers = ends.map(
    (index) =>
      `<text class="quiet" x="${x(index)}" y="${foot}" text-anchor="middle">${index === 0 ? 'round 1' : index + 1}</text>`,
  )
  const lines = rows.map((row, index) => {
    const points = (rates[index] ?? []).map((rate, round) => [x(round), y(rate)] as const)
    const style = `stroke: ${colour(row, rows)}; stroke-dasharray: ${dash(row, rows)}`
    const dots = points.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="3"/>`).join('')
    return `<polyline class="line" points="${points.join(' ')}" style="${style}"/><g style="fill: ${colour(row, rows)}">${dots}</g>`
  })
  const legend = rows.map((row, index) => {
    const [left, top] = [PLOT.left + (index % 2) * 186, foot + 16 + Math.floor(index / 2) * LINE]
    const style = `stroke: ${colour(row, rows)}; stroke-dasharray: ${dash(row, rows)}`
    return (
      `<line class="line" x1="${left}" x2="${left + 26}" y1="${top}" y2="${top}" style="${style}"/>` +
      `<text x="${left + 32}" y="${top + 4}">${escapeText(row.name)}</text>`
    )
  })
  const height = foot + 14 + Math.ceil(rows.length / 2) * LINE
  const parts = [...grid, ...numbers, ...lines, ...legend].join('')
  return chart(`${load.title}: MB/s of each round`, height, parts)
}

/** Without the kernel's slower ways, which nobody is compared with. */
function shown({ rows, ceiling }: LoadSummary): Row[] {
  return rows.filter(({ kind, name }) => (kind !== 'ceiling' && name !== DISCARD) || name === ceiling)
}

function colour(row: Row, rows: Row[]): string {
  return row.kind === 'ceiling' ? 'var(--ceiling)' : `var(--${row.kind}-${placeOf(row, rows) % SHADES})`
}

function dash(row: Row, rows: Row[]): string {
  return row.kind === 'ceiling' ? '1 3' : (DASHES[placeOf(row, rows) % SHADES] ?? 'none')
}

function placeOf(row: Row, rows: Row[]): number {
  return rows.filter(({ kind }) => kind === row.kind).indexOf(row)
}

function chart(title: string, height: number, parts: string): string {
  const name = escapeText(title)
  return `<svg class="chart" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${name}"><title>${name}</title>${parts}</svg>`
}

/** The next of 1, 2 and 5 times a power of ten. */
function nice(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)))
  return power * ([1, 2, 5].find((step) => step * power >= value) ?? 10)
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}

export function escapeText(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`)
}
