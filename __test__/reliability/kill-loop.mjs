// `npm run kill-loop -- --rounds 200`: ten clients push with --resume, file after file, and in each round the server or one of them
// is killed at a random moment and started again. What was acknowledged has to be there, whole.

import { statSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  Choices,
  contentOf,
  folder,
  hasEnded,
  kill,
  options,
  report,
  stagingBelow,
  start,
  startServer,
  until,
  writeBytes,
} from './harness.mjs'
import { ONE_OF_EACH, sourceOf, targetOf, versionsLike } from './versions.mjs'

/** Kept in memory, sent as one stream, and sent in extents that can be gone on with. */
const SOURCE_BYTES = [9_000_000, 20_000, 18_000_000, 600_000]
/** Between the moment that all are at work and the kill. */
const PAUSE_MS_MAX = 300
/** What was told before something happened has been heard so long after it. */
const HEARING_MS = 50
const FINISH_MS_MAX = 90_000

const settings = options({ rounds: 200, clients: 10 })

/** A client's process, or rather one after the other. */
class Pusher {
  #folder
  #address
  #sources
  #seen = new Map()
  begun = -1
  acknowledged = -1
  acknowledgements = 0
  resumedBytes = 0
  failure
  isAtWork = false

  constructor(folder, address, sources) {
    this.#folder = folder
    this.#address = address
    this.#sources = sources
  }

  /** Goes on with the version that was begun, if one was. */
  start() {
    this.isAtWork = false
    const first = Math.max(this.begun, 0)
    const args = [this.#address, this.#folder, `${first}`, ...this.#sources]
    this.process = start(process.execPath, [join(import.meta.dirname, 'pusher.mjs'), ...args])
    createInterface({ input: this.process.stdout }).on('line', (line) => this.#heard(JSON.parse(line)))
  }

  #heard({ begun, acknowledged, resumedBytes, failed, code, message }) {
    this.isAtWork = true
    if (begun !== undefined) this.begun = begun
    if (failed !== undefined) this.failure = `version ${failed}: ${code}: ${message}`
    if (acknowledged === undefined) return
    this.acknowledged = acknowledged
    this.acknowledgements += 1
    this.resumedBytes += resumedBytes
  }

  /** What was acknowledged, as far as it was heard, and what was there after that. */
  state(root) {
    const acknowledged = this.acknowledged
    return {
      acknowledged,
      found: ONE_OF_EACH.map((version) => this.#contentOf(join(root, this.#pathOf(version)))),
    }
  }

  /** Each of its names showed what was acknowledged last, or whole what was begun since. */
  check(fault, { acknowledged, found }, contents, tally) {
    for (const version of ONE_OF_EACH) {
      const [last] = versionsLike(version, Math.max(0, acknowledged - ONE_OF_EACH.length + 1), acknowledged)
      const now = found[version]
      const possible = versionsLike(version, last ?? 0, this.begun).map((it) => sourceOf(contents, it))
      const isThere = now !== undefined && possible.includes(now)
      const path = this.#pathOf(version)
      if (last !== undefined)
        tally.check(
          fault,
          'acknowledged',
          !isThere && `${path} is not version ${last}, nor one up to ${this.begun}`,
        )
      tally.check(fault, 'names', now !== undefined && !isThere && `${path} is no version that was sent`)
    }
  }

  /** The content of a file, read unless it is the very file that was read before: the time of its last change can't be set back. */
  #contentOf(path) {
    const stats = statSync(path, { bigint: true, throwIfNoEntry: false })
    const identity = stats && `${stats.ino} ${stats.size} ${stats.ctimeNs}`
    const seen = this.#seen.get(path)
    if (seen && seen.identity === identity) return seen.content
    const content = contentOf(path)
    this.#seen.set(path, { identity, content })
    return content
  }

  #pathOf(version) {
    return `${this.#folder}/${targetOf(version)}`
  }
}

function sum(clients, name) {
  return clients.reduce((total, client) => total + client[name], 0)
}

await report('kill-loop', settings, async (tally, told) => {
  const choices = new Choices(settings.seed)
  const here = folder()
  const root = folder()
  const sources = SOURCE_BYTES.map((bytes, index) =>
    writeBytes(join(here, `${index}`), bytes, `${settings.seed}-${index}`),
  )
  const contents = sources.map(contentOf)
  let server = await startServer(root, '--port', '0')
  const { address } = server
  const clients = Array.from(
    { length: settings.clients },
    (_, index) => new Pusher(`client-${index}`, address, sources),
  )
  for (const client of clients) client.start()

  const check = async (fault) => {
    await sleep(HEARING_MS)
    const states = clients.map((client) => client.state(root))
    await sleep(HEARING_MS)
    for (const [index, client] of clients.entries()) client.check(fault, states[index], contents, tally)
  }

  const serverKilled = 'server killed'
  const clientKilled = 'client killed'
  for (let round = 0; round < settings.rounds; round++) {
    const moved = clients.map(({ acknowledged }) => acknowledged)
    await until(() => clients.some((client, index) => client.acknowledged !== moved[index]))
    await sleep(choices.below(PAUSE_MS_MAX))
    const fault = choices.below(2) === 0 ? serverKilled : clientKilled
    tally.count(fault)
    const client = choices.oneOf(clients)
    await kill(fault === serverKilled ? server : client.process)
    await check(fault)
    if (fault === serverKilled) server = await startServer(root, '--port', new URL(address).port)
    else client.start()
    if (round % 20 === 19) told(`${round + 1} rounds, ${sum(clients, 'acknowledgements')} files acknowledged`)
  }

  const after = 'after all of it'
  tally.count(after)
  // One that was just started does not listen to signals yet.
  await until(() => clients.every(({ isAtWork }) => isAtWork))
  for (const client of clients) client.process.kill('SIGTERM')
  const haveFinished = await until(() => clients.every((client) => hasEnded(client.process)), FINISH_MS_MAX)
  tally.check(after, 'restart', !haveFinished && 'a client does not come to an end')
  await check(after)
  for (const client of clients) tally.check(after, 'failures', client.failure)
  await kill(server)
  server = await startServer(root, '--port', '0')
  await until(() => stagingBelow(root).length === 0, 10_000)
  tally.check(after, 'restart', stagingBelow(root).length > 0 && `left over: ${stagingBelow(root)}`)
  await kill(server)
  return {
    acknowledged_files: sum(clients, 'acknowledgements'),
    resumed_bytes: sum(clients, 'resumedBytes'),
  }
})
