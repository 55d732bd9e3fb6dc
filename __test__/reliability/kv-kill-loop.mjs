// `npm run kv-kill-loop -- --rounds 200`: connections say random commands to a server that records them (`--kv-dir`), and in each round
// it is killed at a random moment and started again. What was acknowledged has to be there, and of what was under way the first
// part, each transaction as a whole. After a kill that holds whatever `--kv-fsync` says: the kernel has what was written.

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Choices, ended, folder, kill, launchServer, listening, options, report, run } from './harness.mjs'
import { answerTo, connectTo, Writer } from './kv-writer.mjs'

/** Keys that nobody changes: loading them, and writing them anew, takes a while. */
const BALLAST_DATABASE = 15
const BALLAST_KEYS = 20_000
const TOGETHER = 1000
/** Between the moment that all are at work and what happens to the server. */
const WORK_MS_MAX = 400
const REWRITE_MS_MAX = 60
const STOP_MS_MAX = 60

const settings = options({ rounds: 200, writers: 8 })

/** What happens to a server at work; a kill more often than a proper end. */
const FAULTS = {
  killed: { weight: 8, happen: ({ server }) => kill(server) },
  'killed while it writes the log anew': {
    weight: 4,
    async happen({ server, choices, redis }) {
      // Unless that is under way already.
      await answerTo(redis, ['BGREWRITEAOF'])
      await sleep(choices.below(REWRITE_MS_MAX))
      await kill(server)
    },
  },
  'killed while it starts': {
    weight: 4,
    async happen({ server, choices, launch, startMs, counts }) {
      await kill(server)
      for (let times = 1 + choices.below(3); times > 0; times--) {
        const next = launch()
        // One that does not start is found by the next, which is waited for.
        const starts = listening(next).catch(() => {})
        await Promise.race([sleep(startMs / 3 + choices.below(startMs)), starts])
        await kill(next)
        counts.kills += 1
        if (!next.address) counts.kills_before_listening += 1
      }
    },
  },
  'killed while it stops': {
    weight: 1,
    async happen({ server, choices }) {
      server.kill('SIGTERM')
      await sleep(choices.below(STOP_MS_MAX))
      await kill(server)
    },
  },
  stopped: { weight: 2, happen: ({ server }) => stop(server) },
}
const WEIGHTED = Object.keys(FAULTS).flatMap((name) => Array(FAULTS[name].weight).fill(name))
/** Mostly the one that promises most. */
const FSYNCS = ['always', 'always', 'always', 'everysec', 'no']

await report('kv-kill-loop', settings, async (tally, told) => {
  const choices = new Choices(settings.seed)
  const root = folder()
  const directory = join(root, 'keys')
  const writers = Array.from(
    { length: settings.writers },
    (_, index) => new Writer(index, settings.seed + index),
  )
  const counts = { kills: 0, kills_before_listening: 0, unfinished_rewrites: 0, torn_tails: 0 }
  let fsync = 'always'
  const launch = () => {
    const keys = ['--listen', 'kv://127.0.0.1:0', '--kv-dir', directory, '--kv-fsync', fsync]
    return launchServer(root, ...keys, '--workers', `${choices.below(3)}`)
  }
  let server = launch()
  const startMs = await timed(() => listening(server))
  await layBallast(portOf(server))
  for (const writer of writers) await writer.connect(portOf(server))

  /** Goes on after `fault`, and looks at everything. Whether all is well. */
  const goOn = async (fault) => {
    fsync = choices.oneOf(FSYNCS)
    server = launch()
    const failure = await listening(server).then(
      () => undefined,
      (error) => error.message,
    )
    tally.check(fault, 'restart', failure)
    if (failure) return false
    for (const writer of writers) {
      await writer.connect(portOf(server))
      const { lost, torn } = await writer.check()
      tally.check(fault, 'acknowledged', lost)
      tally.check(fault, 'names', torn)
    }
    tally.check(fault, 'acknowledged', await missingBallast(portOf(server)))
    return tally.violations.length === 0
  }

  /** Ends the server properly: Redis understands the log, and nothing is lost. */
  const finish = async () => {
    const after = 'after all of it'
    tally.count(after)
    for (const writer of writers) await writer.stop()
    await stop(server)
    if (!spawnSync('redis-check-aof', ['--version']).error) {
      const manifest = join(directory, 'appendonly.aof.manifest')
      const checked = await run('redis-check-aof', manifest).catch((error) => error.message)
      tally.check(after, 'restart', !checked.includes('All AOF files and manifest are valid') && checked)
    }
    await goOn(after)
    await stop(server)
  }

  let isWell = true
  for (let round = 0; round < settings.rounds && isWell; round++) {
    for (const writer of writers) writer.begin()
    const redis = connectTo(portOf(server), BALLAST_DATABASE)
    await redis.connect()
    await sleep(choices.below(WORK_MS_MAX))
    const name = choices.oneOf(WEIGHTED)
    const fault = `${name}, ${fsync}`
    tally.count(fault)
    await FAULTS[name].happen({ server, choices, launch, startMs, redis, counts })
    if (server.signalCode === 'SIGKILL') counts.kills += 1
    if (existsSync(join(directory, 'temp-appendonly.aof.base'))) counts.unfinished_rewrites += 1
    for (const writer of writers) {
      await writer.stop()
      tally.check(fault, 'failures', writer.wrongReplies[0])
    }
    counts.torn_tails += server.failures.filter((message) => message.includes('was not whole')).length
    isWell = await goOn(fault)
    if (round % 20 === 19) told(`${round + 1} rounds, ${sum(writers)} commands acknowledged`)
  }

  // What was broken is still there then.
  if (isWell) await finish()
  return { acknowledged_commands: sum(writers), ...counts }
})

function portOf({ address }) {
  return Number(address.slice(address.lastIndexOf(':') + 1))
}

/** As one does who runs a server. */
async function stop(server) {
  server.kill('SIGTERM')
  await ended(server)
}

async function timed(what) {
  const startMs = performance.now()
  await what()
  return performance.now() - startMs
}

function sum(writers) {
  return writers.reduce((total, { acknowledged }) => total + acknowledged, 0)
}

async function layBallast(port) {
  await withBallast(port, (redis, keys) => redis.mset(keys.flatMap((key) => [key, ballastOf(key)])))
}

/** What of it is not there, if anything. */
async function missingBallast(port) {
  let missing
  const size = await withBallast(port, async (redis, keys) => {
    const values = await redis.mget(keys)
    missing ??= keys.find((key, index) => values[index] !== ballastOf(key))
  })
  if (missing) return `${missing} is not what it was`
  return size !== BALLAST_KEYS && `${size} keys of ${BALLAST_KEYS}`
}

/** Does something to all of it, some at a time. How many keys there are then. */
async function withBallast(port, use) {
  const redis = connectTo(port, BALLAST_DATABASE)
  await redis.connect()
  for (let first = 0; first < BALLAST_KEYS; first += TOGETHER)
    await use(
      redis,
      Array.from({ length: TOGETHER }, (_, index) => `ballast:${first + index}`),
    )
  const size = await redis.dbsize()
  redis.disconnect()
  return size
}

function ballastOf(key) {
  return key.repeat(8)
}
