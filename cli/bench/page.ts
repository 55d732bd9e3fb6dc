/** The report as one HTML file that asks for nothing else. */
import { barChart, escapeText, STYLE, trendChart } from './chart.js'
import type { LoadSummary, Report } from './summary.js'
import { COLUMNS, cells, terms } from './table.js'

const LAYOUT = `
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 75rem; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; margin: 0 0 .25rem } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem } h3 { font-size: 1rem; margin: 1.5rem 0 .5rem }
.terms { color: var(--quiet); margin: 0 }
.charts { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)) }
figure { margin: 0; max-width: 32rem } figcaption { font-weight: 600 } .chart { display: block; width: 100%; height: auto }
.scroll { overflow-x: auto } .scroll:focus-visible { outline: 2px solid var(--xferd-0) }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .45rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap }
thead th { color: var(--quiet); font-weight: 500; vertical-align: bottom }
tbody th, thead td { position: sticky; left: 0; background: var(--paper); text-align: left; font-weight: 500 }
tr.xferd th, tr.xferd td { font-weight: 700 }
`

export function page(report: Report): string {
  const { loads, left_out } = report
  const missing = left_out.map(({ what, reason }) => `<li>${escapeText(what)}: ${escapeText(reason)}</li>`)
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>xferd bench</title>
<style>${STYLE}${LAYOUT}</style>
</head>
<body>
<header>
<h1>How fast xferd moves files here</h1>
<p class="terms">${escapeText(terms(report))}</p>
</header>
<main>
<h2>Summary</h2>
<ul>
${loads.map((load) => `<li>${escapeText(sentence(load))}</li>`).join('\n')}
</ul>
<h2>Throughput</h2>
<p class="terms">The dashed line is the ceiling: the best way of the kernel alone, measured in the same rounds.</p>
<figure>${barChart(report)}</figure>
<h2>From round to round</h2>
<div class="charts">
${loads.map((load) => `<figure><figcaption>${escapeText(load.title)}, MB/s</figcaption>${trendChart(load)}</figure>`).join('\n')}
</div>
<h2>All figures</h2>
${loads.map(section).join('\n')}
${missing.length > 0 ? `<h2>Left out</h2>\n<ul>\n${missing.join('\n')}\n</ul>` : ''}
</main>
</body>
</html>
`
}

/** What xferd reached at best. */
function sentence({ title, rows, ceiling }: LoadSummary): string {
  const best = rows
    .filter(({ kind }) => kind === 'xferd')
    .sort((one, other) => other.mb_per_s - one.mb_per_s)[0]
  if (!best) return title
  const rate = `${Math.round(best.mb_per_s).toLocaleString('en')} MB/s`
  const ratio =
    best.of_ceiling === undefined ? '' : `, ${best.of_ceiling.toFixed(2)} of the ceiling (${ceiling})`
  return `${title}: ${rate}${ratio}, with ${best.threads} workers`
}

function section(load: LoadSummary): string {
  const name = escapeText(load.title)
  const head = COLUMNS.map((column) => `<th scope="col">${escapeText(column)}</th>`).join('')
  const rows = load.rows.map((row) => {
    const figures = cells(load, row).map((cell) => `<td>${cell}</td>`)
    return `<tr class="${row.kind}"><th scope="row">${escapeText(row.name)}</th>${figures.join('')}</tr>`
  })
  return `<h3>${name}</h3>
<div class="scroll" role="region" aria-label="${name}" tabindex="0">
<table>
<thead><tr><td></td>${head}</tr></thead>
<tbody>
${rows.join('\n')}
</tbody>
</table>
</div>`
}
