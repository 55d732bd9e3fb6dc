// What every run stands on: servers and other processes that are ended by their id, folders that vanish, choices that a seed
// repeats, and the count of how often each promise held.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'

export const REPOSITORY = join(import.meta.dirname, '../..')
const XFERD = join(REPOSITORY, 'bin/xferd.js')
/** What waits for something of another process gives up after this. */
const PATIENCE_MS = 30_000

const folders = new Set()
const children = new Set()
/** What the servers that were started wait for sockets with. */
const backends = new Set()

/** An empty folder that goes with this process. */
export function folder() {
  const path = mkdtempSync(join(tmpdir(), 'xferd-reliability-'))
  folders.add(path)
  return path
}

/** Removes a folder before that. */
export function discard(path) {
  rmSync(path, { recursive: true, force: true })
  folders.delete(path)
}

process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL')
  for (const path of folders) rmSync(path, { recursive: true, force: true, maxRetries: 3 })
})
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
])
  process.on(signal, () => process.exit(code))

/** Starts a program that ends no later than this process. */
export function start(command, args, stdio = ['ignore', 'pipe', 'pipe']) {
  const child = spawn(command, args, { cwd: REPOSITORY, stdio })
  child.complaints = ''
  child.stderr?.setEncoding('utf8').on('data', (data) => {
    child.complaints = (child.complaints + data).slice(-10_000)
  })
  children.add(child)
  child.once('exit', () => children.delete(child))
  return child
}

/** Runs a program to its end and returns what it printed. */
export async function run(command, ...args) {
  const child = start(command, args)
  let printed = ''
  child.stdout.setEncoding('utf8').on('data', (data) => {
    printed += data
  })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${child.complaints}${printed}`)
  return printed
}

export function hasEnded(child) {
  return child.exitCode !== null || child.signalCode !== null
}

/** Waits for the end of a process. */
export async function ended(child) {
  if (!hasEnded(child)) await once(child, 'exit')
}

/** As `kill -9`, and waits for the end. */
export async function kill(child) {
  child.kill('SIGKILL')
  await ended(child)
}

/** `xferd serve` over `root`, from when it listens on. */
export async function startServer(root, ...flags) {
  const server = launchServer(root, ...flags)
  await listening(server)
  return server
}

/** The same from the very beginning on. */
export function launchServer(root, ...flags) {
  const server = start(process.execPath, [XFERD, 'serve', root, '--json', ...flags])
  /** What went wrong, as it tells. */
  server.failures = []
  createInterface({ input: server.stdout }).on('line', (line) => {
    const { event, addresses, backend, error } = said(line)
    if (error) server.failures = [...server.failures, error.message].slice(-100)
    if (event !== 'listening') return
    server.address = addresses[0]
    backends.add(backend.name)
    server.emit('listening')
  })
  return server
}

/** What a line says: nothing if whoever wrote it was killed meanwhile. */
function said(line) {
  try {
    return JSON.parse(line)
  } catch {
    return {}
  }
}

/** Waits until a server listens. */
export async function listening(server) {
  if (!server.address) await Promise.race([once(server, 'listening'), ended(server)])
  if (!server.address) throw new Error(`the server ended: ${server.complaints}${server.failures}`)
}

/** Waits until `condition` holds. Whether it came to that. */
export async function until(condition, patienceMs = PATIENCE_MS) {
  for (const startMs = performance.now(); performance.now() - startMs < patienceMs; await sleep(10))
    if (await condition()) return true
  return false
}

/** A source of choices that are the same for the same seed (mulberry32). */
export class Choices {
  #state

  constructor(seed) {
    this.#state = seed >>> 0
  }

  /** A whole number below `limit`. */
  below(limit) {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit)
  }

  oneOf(list) {
    return list[this.below(list.length)]
  }

  /** `count` of the list, in its order; all of it if there are not as many. */
  some(list, count) {
    const left = list.map((_, index) => index)
    const chosen = Array.from({ length: Math.min(count, list.length) }, () =>
      left.splice(this.below(left.length), 1),
    )
    return chosen
      .flat()
      .sort((one, other) => one - other)
      .map((index) => list[index])
  }
}

/** Writes bytes that look random and are the same for the same seed. */
export function writeBytes(path, bytes, seed) {
  const block = createHash('shake256', { outputLength: 1 << 20 })
    .update(`${seed}`)
    .digest()
  const content = Buffer.alloc(bytes)
  for (let at = 0; at < bytes; at += block.length) {
    block.copy(content, at)
    content.writeUInt32LE(at >>> 8, at + 4 <= bytes ? at : 0)
  }
  writeFileSync(path, content)
  return path
}

/** What is at a path: `undefined` for nothing, else what tells its content from any other. */
export function contentOf(path) {
  try {
    return createHash('sha1').update(readFileSync(path)).digest('hex')
  } catch (error) {
    if (error.code === 'ENOENT') return undefined
    throw error
  }
}

/** Files below a folder, hidden ones too, sorted. */
export function filesBelow(path) {
  const entries = readdirSync(path, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => !entry.isDirectory())
  return files.map((entry) => join(entry.parentPath, entry.name).slice(path.length + 1)).sort()
}

/** Names that the server keeps for what is not complete. */
export function stagingBelow(path) {
  return filesBelow(path).filter((name) => /(?:^|\/)\.xferd-[^/]*$/.test(name))
}

/** The promises, as docs/architecture.md numbers them, by the names that runs count them under. */
export const PROMISES = {
  acknowledged: 'acknowledged is whole and equal',
  names: 'names are absent, old or complete',
  root: 'nothing outside is read or changed',
  bounded: 'memory is bounded, others are served',
  restart: 'a restart cleans up and goes on',
  failures: 'failures have a fitting code',
}

/** How often each promise was looked at under each fault, and where it was broken. */
export class Tally {
  #rows = new Map()
  #violations = []
  #told

  constructor(told) {
    this.#told = told
  }

  /** One more of `fault`, whose promises are told by {@link check}. */
  count(fault, times = 1) {
    this.#row(fault).cases += times
  }

  /** `promise` was looked at under `fault`; `broken` says what was wrong, if anything was. */
  check(fault, promise, broken) {
    const row = this.#row(fault)
    row.promises[promise] ??= { checked: 0, broken: 0 }
    row.promises[promise].checked += 1
    if (!broken) return
    row.promises[promise].broken += 1
    this.#violations.push({ fault, promise, broken })
    this.#told(`BROKEN  ${promise}, ${fault}: ${broken}`)
  }

  get violations() {
    return this.#violations
  }

  get rows() {
    return [...this.#rows].map(([fault, row]) => ({ fault, ...row }))
  }

  #row(fault) {
    if (!this.#rows.has(fault)) this.#rows.set(fault, { cases: 0, promises: {} })
    return this.#rows.get(fault)
  }
}

/**
 * The command line of a run: `--json`, `--seed`, `--backend` of all servers and clients, and what `defaults` names, each a whole
 * number or a text as its default is.
 */
export function options(defaults) {
  const settings = { seed: Math.floor(Math.random() * 2 ** 32), backend: 'auto', ...defaults }
  const flags = Object.fromEntries(Object.keys(settings).map((name) => [name, { type: 'string' }]))
  const { values } = parseArgs({ options: { json: { type: 'boolean' }, ...flags } })
  for (const [name, byDefault] of Object.entries(settings)) {
    const value = values[name] ?? byDefault
    settings[name] = typeof byDefault === 'number' ? Number(value) : value
    if (typeof byDefault === 'number' && !(Number.isSafeInteger(settings[name]) && settings[name] >= 0))
      throw new Error(`--${name} is a whole number, not ${value}`)
  }
  // Whatever is started from here on heeds it; a name that there is not is refused there.
  if (settings.backend !== 'auto') process.env.XFERD_BACKEND = settings.backend
  return { json: values.json ?? false, ...settings }
}

/** Runs `body` with a tally, prints what came of it, and ends the process: with 1 if a promise was broken. */
export async function report(name, settings, body) {
  const { json, ...chosen } = settings
  const startMs = performance.now()
  const told = (line) => void process.stderr.write(`${name}: ${line}\n`)
  const tally = new Tally(told)
  const flags = Object.entries(chosen).filter(([, value]) => value !== '')
  told(flags.map(([flag, value]) => `--${flag} ${value}`).join(' '))
  const figures = await body(tally, told)
  const seconds = Math.round((performance.now() - startMs) / 100) / 10
  const summary = {
    run: name,
    day: new Date().toISOString().slice(0, 10),
    kernel: release(),
    ...chosen,
    backend: [...backends].join(' and ') || chosen.backend,
    seconds,
    ...figures,
    rows: tally.rows,
    violations: tally.violations,
  }
  console.log(json ? JSON.stringify(summary) : readable(summary))
  process.exit(tally.violations.length === 0 ? 0 : 1)
}

/** Why a run is left out: told, and no failure. */
export function skip(name, reason) {
  console.log(JSON.stringify({ run: name, skipped: reason, rows: [], violations: [] }))
  process.exit(0)
}

/** The cells of a table of faults and promises. */
export function cellsOf(rows) {
  return rows.map(({ fault, cases, promises }) => [
    fault,
    cases.toLocaleString('en'),
    ...Object.keys(PROMISES).map((promise) => cellOf(promises[promise])),
  ])
}

function cellOf(counted) {
  if (!counted) return ''
  const held = (counted.checked - counted.broken).toLocaleString('en')
  return counted.broken === 0 ? held : `${held} of ${counted.checked.toLocaleString('en')}`
}

function readable({ run, rows, violations, ...figures }) {
  const lines = Object.entries(figures).map(([name, value]) => `${name}: ${JSON.stringify(value)}`)
  const table = [['', 'cases', ...Object.keys(PROMISES)], ...cellsOf(rows)]
  const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)))
  const aligned = (cell, column) =>
    column === 0 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])
  return [
    ...lines,
    '',
    ...table.map((row) => row.map(aligned).join('  ')),
    '',
    violations.length === 0 ? `${run}: every promise held` : `${run}: ${violations.length} broken`,
  ].join('\n')
}
