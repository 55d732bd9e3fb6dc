// `npm run reliability`: every run on real processes in full, and the table in docs/reliability.md from what they counted. With
// `--short` the sizes that `npm test` uses, and no change to the document.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import { cellsOf, PROMISES, REPOSITORY } from './harness.mjs'
import { SHORT } from './short.mjs'

const DOCUMENT = join(REPOSITORY, 'docs/reliability.md')
const BEGIN = '<!-- real processes: begin, written by npm run reliability -->'
const END = '<!-- real processes: end -->'

const { values } = parseArgs({ options: { short: { type: 'boolean' } } })
const summaries = []
for (const [name, short] of Object.entries(SHORT)) {
  const args = [join(import.meta.dirname, `${name}.mjs`), '--json', ...(values.short ? short : [])]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const [summary] = await Promise.all([json(child.stdout), once(child, 'exit')])
  summaries.push(summary)
}
const section = summaries.map(sectionOf).join('\n\n')
if (values.short) console.log(section)
else writeSection(section)
const broken = summaries.flatMap(({ violations }) => violations)
process.exitCode = broken.length === 0 ? 0 : 1

function sectionOf({ run, skipped, rows, violations, ...figures }) {
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

function writeSection(section) {
  const document = readFileSync(DOCUMENT, 'utf8')
  const [before, rest] = document.split(BEGIN)
  const after = rest?.split(END)[1]
  if (after === undefined) throw new Error(`${DOCUMENT} has no place for the table: ${BEGIN} … ${END}`)
  const date = new Date().toISOString().slice(0, 10)
  const where = `Run on ${date}, Linux ${release()}.`
  writeFileSync(DOCUMENT, `${before}${BEGIN}\n\n${where}\n\n${section}\n\n${END}${after}`)
  console.log(`${DOCUMENT} is written`)
}
