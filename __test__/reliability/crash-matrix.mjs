// `npm run crash-matrix`: each call by which a server touches the disk while something is pushed with --fsync, one at a time: the
// server killed before and after it, and the call failed by EIO and ENOSPC. Which calls there are is seen in a run without faults.
// `--call NAME` takes the cases of one call, `--sample N` takes N of all, chosen by the seed; `--jobs N` has so many under way at a
// time. With io_uring the calls are the same: it carries what goes over sockets, and the reactor calls the file system itself.
import { copyFileSync, cpSync, mkdirSync, rmSync, statSync, utimesSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from 'xferd'
import {
  Choices,
  contentOf,
  discard,
  ended,
  filesBelow,
  folder,
  hasEnded,
  kill,
  options,
  report,
  skip,
  stagingBelow,
  startServer,
  until,
  writeBytes,
} from './harness.mjs'
import { INJECTIONS, trace, untraceable } from './trace.mjs'

const NAME = 'crash-matrix'
/** How often a case is tried whose call was not made this time: how much a receive brings is up to the network. */
const TRIES = 4
/** How long a client may need to notice that its server is gone. */
const NOTICE_MS_MAX = 20_000
/** A checkpoint of the journal is made every 64 MiB. */
const PAST_A_CHECKPOINT_BYTES = 68_000_000
/** A header, a checkpoint and two records (crates/store/src/journal.rs). */
const JOURNAL_BEGUN_BYTES = 512 + 3 * 32
/** A sync of what has come of a file that can be resumed, or a wait for it; neither of its journal nor of a folder. */
const SYNC_OF_CONTENT = /^(?:f(?:data)?sync|sync_file_range)\(\d+<.*\/\.xferd-[0-9a-f]{16}>[),]/

/** What a failure may be called, by what was done. */
const FITTING = {
  EIO: ['IO'],
  ENOSPC: ['DISK_FULL'],
  'killed before': ['CONNECTION_LOST', 'CONNECTION_REFUSED'],
  'killed after': ['CONNECTION_LOST', 'CONNECTION_REFUSED'],
}

const sources = folder()
const OLD = writeBytes(join(sources, 'old'), 300_000, 'old')

const TREE = tree('tree', 3, 6)

/** What is pushed, where to, how, and what is there before. */
const SCENARIOS = {
  'a file': scenario(file('plain', 3_000_000)),
  'a file that replaces another': scenario(file('replacing', 2_000_000), { old: ['d/replacing'] }),
  'a file that can be resumed': scenario(file('resumable', PAST_A_CHECKPOINT_BYTES), { resume: true }),
  'a file that is gone on with': scenario(file('resumed', 34_000_000), {
    resume: true,
    begun: true,
    writePath: 'uncached',
  }),
  'a file that is gone on with, paced': scenario(file('paced', 34_000_000), {
    resume: true,
    begun: true,
    writePath: 'paced',
  }),
  'a tree of small files': scenario(TREE, { old: ['d/tree/0/1', 'd/tree/2/0'] }),
}

const settings = options({ sample: 0, call: '', jobs: 2 })
const reason = untraceable()
if (reason) skip(NAME, reason)

await report(NAME, settings, async (tally, told) => {
  const cases = []
  for (const [name, scenario] of Object.entries(SCENARIOS)) {
    if (scenario.begun) scenario.template = await cutOff(scenario)
    const calls = await callsOf(scenario)
    told(`${name}: ${calls.length} calls`)
    // A descriptor is closed even if that reports an error; one that is injected would leave it open.
    for (const call of calls.filter(({ call }) => ['', call].includes(settings.call)))
      for (const fault of Object.keys(INJECTIONS))
        if (call.call !== 'close' || fault.startsWith('killed'))
          cases.push({ name, scenario, fault, ...call })
  }
  const chosen = settings.sample > 0 ? new Choices(settings.seed).some(cases, settings.sample) : cases
  const byCall = {}
  const missed = []
  let begun = 0
  const work = async () => {
    for (let at = begun++; at < chosen.length; at = begun++) {
      const one = chosen[at]
      if (await attempt(one, tally)) byCall[one.call] = (byCall[one.call] ?? 0) + 1
      else missed.push(`${one.name}: ${one.fault} ${one.call} ${one.nth}`)
      if (begun % 50 === 0) told(`${begun} of ${chosen.length}`)
    }
  }
  await Promise.all(Array.from({ length: Math.max(1, settings.jobs) }, work))
  return { cases: chosen.length - missed.length, calls: byCall, missed }
})

/** The calls that touch the root while the scenario runs without a fault. */
async function callsOf(scenario) {
  const root = await rootFor(scenario)
  const server = await startTraced(root, scenario)
  const tracing = await trace(server, `${root}.log`)
  const outcome = await push(scenario, server)
  if (outcome.error) throw outcome.error
  if (scenario.begun && outcome.receipt.resumedBytes === 0)
    throw new Error('nothing of what was cut off is gone on with')
  const calls = await tracing.calls()
  await kill(server)
  discardRoot(root)
  return calls.filter(({ line }) => line.includes(root)).map(({ call, nth }) => ({ call, nth }))
}

/** Runs one case. `false` if the call was not made. */
async function attempt(one, tally) {
  for (let tries = 0; tries < TRIES; tries++) if (await survive(one, tally)) return true
  return false
}

async function survive({ name, scenario, fault, call, nth }, tally) {
  const root = await rootFor(scenario)
  const server = await startTraced(root, scenario)
  const tracing = await trace(server, `${root}.log`, { call, nth, fault })
  const before = await statesOf(scenario, root)
  const outcome = await push(scenario, server)
  const seen = (await tracing.calls()).find((it) => it.call === call && it.nth === nth)
  // What is of use to nobody else is no case: a descriptor that is none of the root's.
  const hit =
    seen?.line.includes(root) && isHit(seen.line, fault) && hasEnded(server) === fault.startsWith('killed')
  await kill(server)
  if (hit) {
    const row = `${fault}, ${name}`
    const check = (promise, broken) => tally.check(row, promise, broken && `${call} ${nth}: ${broken}`)
    tally.count(row)
    checkNames(scenario, root, before, outcome, check)
    if (outcome.error) check('failures', misfit(outcome.error, FITTING[fault]))
    await checkRestart(scenario, root, check, fault.startsWith('E') && SYNC_OF_CONTENT.test(seen.line))
  }
  discardRoot(root)
  return hit === true
}

/** Whether the call came to the end that the fault means it to. */
function isHit(line, fault) {
  if (fault === 'killed before') return / = \?/.test(line)
  if (fault === 'killed after') return !/ = \?/.test(line)
  return line.includes('(INJECTED)')
}

/** One name of the scenario holds what it held, or all of its successor; what was acknowledged is the successor. */
function checkNames({ pairs }, root, before, { acknowledged }, check) {
  for (const { path, content } of pairs) {
    const now = contentOf(join(root, path))
    check(
      'names',
      now !== before[path] && now !== content && `${path} is neither what it was nor what was sent`,
    )
    if (acknowledged(path))
      check('acknowledged', now !== content && `${path} was acknowledged and is not there`)
  }
}

/** A new server on the same root cleans up; the same push succeeds; nothing is left over. */
async function checkRestart(scenario, root, check, syncFailed) {
  const server = await startTraced(root, scenario)
  const swept = () => stagingBelow(root).length === 0
  if (!scenario.resume) check('restart', !(await until(swept, 5000)) && `left over: ${stagingBelow(root)}`)
  const again = await push(scenario, server)
  check('restart', again.error && `a second push fails: ${again.error.message}`)
  // The kernel tells of a failed sync once and forgets what it could not write; believing it would be acknowledging that.
  const believed = syncFailed && again.receipt?.resumedBytes > 0
  check('acknowledged', believed && `${again.receipt.resumedBytes} bytes whose sync had failed were believed`)
  for (const { path, content } of scenario.pairs)
    check('acknowledged', contentOf(join(root, path)) !== content && `${path} differs after a second push`)
  check('restart', stagingBelow(root).length > 0 && `left over after a second push: ${stagingBelow(root)}`)
  await kill(server)
}

function misfit(error, fitting) {
  const codes = error.receipt?.failures.map((failure) => failure.error.code) ?? []
  const wrong = [...codes, ...(error.code === 'PARTIAL' ? [] : [error.code])].find(
    (code) => !fitting.includes(code),
  )
  return wrong && `${wrong}: ${error.message}`
}

/** A server with one thread for everything. Which way large files take to the disk is not left to what else the disk has to do. */
function startTraced(root, { writePath }) {
  const single = ['--io-threads', '1', '--workers', '0']
  return startServer(root, '--port', '0', ...single, '--write-path', writePath)
}

/** Pushes it with --fsync. Which files were acknowledged, and why others were not. */
async function push({ source, target, resume }, server) {
  const giveUp = new AbortController()
  let client
  try {
    client = await connect(server.address)
    const transfer = client.push(source, target, { resume, durable: true, signal: giveUp.signal })
    const done = transfer.then(
      (receipt) => ({ receipt }),
      (error) => ({ error }),
    )
    // Somebody who may resume waits for the server to come back. It won't.
    const lost = ended(server).then(async () => {
      await sleep(resume ? 100 : NOTICE_MS_MAX)
      giveUp.abort()
      return done
    })
    const { receipt, error } = await Promise.race([done, lost])
    const lostHere = error?.code === 'ABORTED' && resume && hasEnded(server)
    const failed = new Set(error?.receipt?.failures.map(({ path }) => path))
    return {
      receipt,
      error: lostHere ? undefined : error,
      acknowledged: (path) => receipt !== undefined || (error.code === 'PARTIAL' && !failed.has(path)),
    }
  } catch (error) {
    return { error, acknowledged: () => false }
  } finally {
    await client?.close()
  }
}

/** A push of `source` into the folder `d`. What is called `old` is there already; with `begun`, so is the first half of it. */
function scenario(source, { resume = false, begun = false, old = [], writePath = 'cached' } = {}) {
  const name = basename(source)
  const below = statSync(source).isDirectory() ? filesBelow(source).map((path) => `/${path}`) : ['']
  const pairs = below.map((path) => ({ path: `d/${name}${path}`, content: contentOf(`${source}${path}`) }))
  return { source, target: `d/${name}`, resume, begun, old, writePath, pairs }
}

async function rootFor({ old, template }) {
  const root = folder()
  if (template) cpSync(template, root, { recursive: true })
  for (const path of old) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    copyFileSync(OLD, join(root, path))
    utimesSync(join(root, path), 1e9, 1e9)
  }
  return root
}

/** What a server leaves that is killed in the middle of the scenario: with some of it in its journal, whatever came at a time. */
async function cutOff(scenario) {
  for (let nth = 16; ; nth += 8) {
    const root = await rootFor(scenario)
    const server = await startTraced(root, { writePath: 'cached' })
    const tracing = await trace(server, `${root}.log`, { call: 'pwrite64', nth, fault: 'killed before' })
    const { receipt } = await push(scenario, server)
    await tracing.calls()
    await kill(server)
    if (receipt) throw new Error('a push that was to be cut off is through')
    const [, journal] = stagingBelow(root)
    if (journal && statSync(join(root, journal)).size >= JOURNAL_BEGUN_BYTES) return root
    discardRoot(root)
  }
}

function discardRoot(root) {
  rmSync(`${root}.log`, { force: true })
  discard(root)
}

function statesOf({ pairs }, root) {
  return Object.fromEntries(pairs.map(({ path }) => [path, contentOf(join(root, path))]))
}

function file(name, bytes) {
  return writeBytes(join(sources, name), bytes, name)
}

function tree(name, folders, files) {
  for (let at = 0; at < folders; at++) {
    mkdirSync(join(sources, name, `${at}`), { recursive: true })
    for (let it = 0; it < files; it++)
      writeBytes(join(sources, name, `${at}`, `${it}`), it * 20_000, `${at}-${it}`)
  }
  return join(sources, name)
}
