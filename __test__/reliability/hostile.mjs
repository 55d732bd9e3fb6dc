// Peers that mean no good, all in one process: node hostile.mjs PORT WRITERS READERS SILENT ANNOUNCERS
// It tells on stdout once all are there and what they have asked for is on its way, and again, when its standard input ends, what
// became of them.
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { extent, frame, get, hello, list, OPCODES, put } from './wire.mjs'

/** Connections that are being opened at a time: a queue of a listener has an end. */
const OPENING = 200
const DRIP_MS = 200
const FOUR_GIB = 2 ** 32
/** Just small enough to be kept in memory until it is whole. */
const SMALL_BYTES = 256 << 10
const LARGE_BYTES = 1_000_000
/** Files of one connection that arrive side by side. */
const SIDE_BY_SIDE = 16
const REQUESTS = 64

const [port, ...counts] = process.argv.slice(2).map(Number)
const [writers, readers, silent, announcers] = counts
const peers = { writers: [], readers: [], silent: [], announcers: [] }
const all = [
  ...Array.from({ length: silent }, (_, index) => () => beSilent(index)),
  ...Array.from({ length: writers }, (_, index) => () => writeSlowly(index)),
  ...Array.from({ length: readers }, (_, index) => () => readSlowly(index)),
  ...Array.from({ length: announcers }, (_, index) => () => announce(index)),
]
let next = 0
await Promise.all(
  Array.from({ length: OPENING }, async () => {
    while (next < all.length) await all[next++]()
  }),
)
const dripping = setInterval(() => {
  for (const peer of peers.writers) if (peer.writable) peer.write(Buffer.alloc(1))
}, DRIP_MS)
// What a server does about who announced too much needs a moment.
for (let tries = 0; tries < 100 && peers.announcers.some(({ destroyed }) => !destroyed); tries++)
  await sleep(100)
console.log(JSON.stringify(state()))
process.stdin.resume()
await once(process.stdin, 'end')
clearInterval(dripping)
console.log(JSON.stringify(state()))
process.exit(0)

/** How many of each kind still have their connection. */
function state() {
  return Object.fromEntries(
    Object.entries(peers).map(([kind, sockets]) => [
      kind,
      sockets.filter(({ destroyed }) => !destroyed).length,
    ]),
  )
}

async function open(kind, { reads = true } = {}) {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  socket.on('error', () => {})
  if (reads) socket.resume()
  else socket.pause()
  peers[kind].push(socket)
  await Promise.race([once(socket, 'connect'), once(socket, 'close')])
  return socket
}

/** Half of them say hello first. */
async function beSilent(index) {
  const socket = await open('silent')
  if (index % 2 === 0) socket.write(hello())
}

/** A large file a byte at a time; or as many small ones as go side by side, all but a byte of each, and that a byte at a time. */
async function writeSlowly(index) {
  const socket = await open('writers')
  socket.write(hello())
  if (index % 2 === 0) {
    socket.write(put(1, `slow/large-${index}`, LARGE_BYTES))
    socket.write(extent(1, 0, LARGE_BYTES))
    return
  }
  for (let request = 1; request <= SIDE_BY_SIDE; request++) {
    const kept = SMALL_BYTES - 1
    socket.write(put(request, `slow/small-${index}-${request}`, SMALL_BYTES))
    const isLast = request === SIDE_BY_SIDE
    socket.write(extent(request, 0, isLast ? SMALL_BYTES : kept, Buffer.alloc(isLast ? kept / 2 : kept)))
  }
}

/** Asks for much and takes nothing. */
async function readSlowly(index) {
  const socket = await open('readers', { reads: false })
  socket.write(hello())
  for (let request = 1; request <= REQUESTS; request++) {
    if (index % 3 === 0) socket.write(get(request, 'served/large'))
    else if (index % 3 === 1) socket.write(get(request, `served/small/${request % 10}`))
    else socket.write(list(request, 'served'))
  }
}

/** Announces 4 GiB, in one of the places where a length is announced. */
async function announce(index) {
  const socket = await open('announcers')
  const part = Buffer.alloc(100)
  const kinds = [
    () => hello(FOUR_GIB - 1),
    () => Buffer.concat([hello(), frame(OPCODES.stat, 1, part, FOUR_GIB)]),
    () => Buffer.concat([hello(), frame(OPCODES.put, 1, part, FOUR_GIB)]),
    () => Buffer.concat([hello(), put(1, `slow/announced-${index}`), extent(1, 0, FOUR_GIB, part)]),
    () => Buffer.concat([hello(), frame(OPCODES.optional, 1, part, FOUR_GIB)]),
  ]
  socket.write(kinds[index % kinds.length]())
}
