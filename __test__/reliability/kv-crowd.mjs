// `npm run kv-crowd`: as many connections to a server of keys as it may have, that say something all at once, then nothing for a while,
// then again. Each is answered each time, none is dropped, one more is told why not, and what one costs that says nothing is told.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { hasEnded, kill, options, report, start, until } from './harness.mjs'

/** Connections that are being opened at a time: a queue of a listener has an end. */
const OPENING = 200
/** After half a second a connection rests. */
const REST_MS = 2000
const ANSWER_MS_MAX = 60_000
/** Of resident memory, for a connection that says nothing. */
const CONNECTION_BYTES_MAX = 4096
const SERVE = `
  import { serve } from 'xferd'
  const server = await serve({ listen: ['kv://127.0.0.1:0'], maxConnections: Number(process.argv[1]) })
  console.log(server.addresses[0])`

const settings = options({ connections: 10_000, rounds: 5 })

class Peer {
  heard = ''

  constructor(port) {
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true })
    this.socket.on('error', () => {})
    this.socket.setEncoding('latin1').on('data', (text) => {
      this.heard += text
    })
    this.there = Promise.race([once(this.socket, 'connect'), once(this.socket, 'close')])
  }

  ask(...commands) {
    this.socket.write(commands.map((args) => `${args.join(' ')}\r\n`).join(''))
  }

  /** What was heard since this was last asked. */
  take() {
    const heard = this.heard
    this.heard = ''
    return heard
  }
}

await report('kv-crowd', settings, async (tally, told) => {
  const { connections, rounds } = settings
  const server = start(process.execPath, ['--input-type=module', '--eval', SERVE, `${connections}`])
  const [address] = await Promise.race([
    once(createInterface({ input: server.stdout }), 'line'),
    once(server, 'exit'),
  ])
  if (hasEnded(server)) throw new Error(`the server ended: ${server.complaints}`)
  const port = Number(address.split(':').at(-1))
  // Started, a server has yet to load what it first needs.
  for (const peer of await crowd(port, OPENING)) peer.socket.destroy()
  await sleep(REST_MS)
  const before = residentBytes(server)

  const startMs = performance.now()
  const peers = await crowd(port, connections)
  told(`${connections} connections after ${Math.round(performance.now() - startMs)} ms`)
  await sleep(REST_MS)
  const bytes = (residentBytes(server) - before) / connections
  tally.check('silent', 'bounded', bytes > CONNECTION_BYTES_MAX && `${Math.round(bytes)} bytes a connection`)
  tally.count('silent', connections)

  const answerMs = []
  for (let round = 0; round < rounds; round++) {
    const said = `${round}`
    const askedMs = performance.now()
    for (const [index, peer] of peers.entries())
      peer.ask(['SET', `key:${index}`, said], ['GET', `key:${index}`])
    const expected = `+OK\r\n$${said.length}\r\n${said}\r\n`
    await until(() => peers.every(({ heard }) => heard.length >= expected.length), ANSWER_MS_MAX)
    answerMs.push(Math.round(performance.now() - askedMs))
    tally.count('all at once', connections)
    for (const [index, peer] of peers.entries()) {
      const isServed = peer.take() === expected && !peer.socket.destroyed
      tally.check(
        'all at once',
        'bounded',
        !isServed && `connection ${index} is not answered in round ${round}`,
      )
    }
  }

  tally.count('one too many')
  const [last] = await crowd(port, 1)
  last.ask(['PING'])
  await until(() => last.socket.destroyed)
  const refusal = '-ERR max number of clients reached\r\n'
  tally.check(
    'one too many',
    'failures',
    last.heard !== refusal && `it is told ${JSON.stringify(last.heard)}`,
  )
  await kill(server)
  return { bytes_a_connection: Math.round(bytes), milliseconds_until_all_are_answered: answerMs }
})

/** So many connections. */
async function crowd(port, count) {
  const peers = []
  await Promise.all(
    Array.from({ length: Math.min(OPENING, count) }, async () => {
      while (peers.length < count) await peers[peers.push(new Peer(port)) - 1].there
    }),
  )
  return peers
}

function residentBytes({ pid }) {
  return 1024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1])
}
