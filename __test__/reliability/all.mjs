// `npm run reliability`: every run on real processes in full, and their tables in docs/reliability.md from what they counted.
//
//   npm run reliability -- [--backend mio|uring] [--short] [RUN | FILE]...
//
// A RUN is the name of one; a FILE holds what one printed with `--json`. The tables of others stay as they are. With `--short` the
// sizes that `npm test` uses, and no change to the document.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import { cellsOf, PROMISES, REPOSITORY } from './harness.mjs'
import { SHORT } from './short.mjs'

const DOCUMENT = join(REPOSITORY, 'docs/reliability.md')
const BEGIN = '<!-- real processes: begin, written by npm run reliability -->'
const END = '<!-- real processes: end -->'

const { values, positionals } = parseArgs({
  options: { short: { type: 'boolean' }, backend: { type: 'string', default: 'auto' } },
  allowPositionals: true,
})
const summaries = []
for (const wanted of positionals.length > 0 ? positionals : Object.keys(SHORT))
  summaries.push(SHORT[wanted] ? await summaryOf(wanted) : JSON.parse(readFileSync(wanted, 'utf8')))
const sections = new Map(summaries.map((summary) => [summary.run, sectionOf(summary)]))
if (values.short) console.log([...sections.values()].join('\n\n'))
else writeSections(sections)
const broken = summaries.flatMap(({ violations }) => violations)
process.exitCode = broken.length === 0 ? 0 : 1

async function summaryOf(name) {
  const sizes = values.short ? SHORT[name] : []
  const args = [join(import.meta.dirname, `${name}.mjs`), '--json', '--backend', values.backend, ...sizes]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const [summary] = await Promise.all([json(child.stdout), once(child, 'exit')])
  return summary
}

function sectionOf({ run, skipped, rows, violations, day, kernel, ...figures }) {
  if (skipped) return `### ${run}\n\nSkipped: ${skipped}.`
  const head = ['fault', 'cases', ...Object.values(PROMISES)]
  const table = [head, head.map((_, column) => (column === 0 ? '---' : '---:')), ...cellsOf(rows)]
  const told = Object.entries(figures).filter(([, value]) => value !== '' && typeof value !== 'object')
  const lists = Object.entries(figures).filter(
    ([, value]) => typeof value === 'object' && Object.keys(value).length > 0,
  )
  return [
    `### ${run}`,
    '',
    ...table.map((cells) => `| ${cells.join(' | ')} |`),
    '',
    `Run on ${day}, Linux ${kernel}.`,
    '',
    `${told.map(([name, value]) => `${wordsOf(name)} ${value.toLocaleString('en')}`).join(', ')}.`,
    ...lists.flatMap(([name, value]) => ['', `${wordsOf(name)}: ${listOf(value)}.`]),
    ...violations.map(({ fault, promise, broken }) => `\n**Broken**: ${promise}, ${fault}: ${broken}`),
  ].join('\n')
}

function listOf(value) {
  if (Array.isArray(value)) return value.join('; ')
  return Object.entries(value)
    .map(([name, it]) =>
      typeof it === 'object' ? `${name} (${listOf(it)})` : `${name} ${it.toLocaleString('en')}`,
    )
    .join(', ')
}

function wordsOf(name) {
  return name.replaceAll('_', ' ')
}

/** Puts each section in the place of the one of its name. */
function writeSections(sections) {
  const document = readFileSync(DOCUMENT, 'utf8')
  const [before, rest] = document.split(BEGIN)
  const [there, after] = rest?.split(END) ?? []
  if (after === undefined) throw new Error(`${DOCUMENT} has no place for the tables: ${BEGIN} … ${END}`)
  const kept = [...there.matchAll(/^### (\S+)\n.*?(?=\n+### |\s*$(?![\s\S]))/gms)]
  const all = new Map([...kept.map(([section, name]) => [name, section]), ...sections])
  const inOrder = Object.keys(SHORT).flatMap((name) => all.get(name) ?? [])
  writeFileSync(DOCUMENT, `${before}${BEGIN}\n\n${inOrder.join('\n\n')}\n\n${END}${after}`)
  console.log(`${DOCUMENT} is written`)
}
