// What docs/why-striping.md tells: a large file over one and several connections, and a push that goes on at its half.
//
//   node bench/striping.mjs rates [--rounds 5] [--size 1GiB in bytes]
//   node bench/striping.mjs resume [--size 4GiB in bytes]

import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { createServer, connect as dial } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { connect } from 'xferd'
import { writeRandomFile } from '../cli/bench/disk.mjs'
import { launch, stop } from '../cli/bench/processes.mjs'
import { ROOT } from './gate/checkout.mjs'
import { median } from './gate/verdict.mjs'
import { temporaryFolder } from './temporary-folder.mjs'
import { serve, xferdOf } from './xferd.mjs'

const XFERD = xferdOf(ROOT)
const GIB = 1024 ** 3
const EXTENT_BYTES = 8 << 20
const STREAMS = [1, 2, 4]

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '5' }, size: { type: 'string' } },
})

const folder = temporaryFolder('striping')
const source = join(folder, 'source')
const root = join(folder, 'root')
mkdirSync(root)

if (positionals[0] === 'rates') await rates(Number(values.size ?? GIB), Number(values.rounds))
else if (positionals[0] === 'resume') await resume(Number(values.size ?? 4 * GIB))
else throw new Error('say what to measure: rates or resume')

/** Pushes one file in turn over 1, 2 and 4 connections, to a server in a process of its own. */
async function rates(size, rounds) {
  await writeRandomFile(source, size)
  const { server, address } = await serve(XFERD, root)
  const figures = new Map(STREAMS.map((streams) => [streams, []]))
  const client = await connect(address)
  for (let round = -1; round < rounds; round++) {
    for (const streams of STREAMS) {
      const { seconds } = await client.push(source, 'copy', { streams })
      await client.remove('copy')
      if (round >= 0) figures.get(streams).push(size / 1e6 / seconds)
    }
  }
  await client.close()
  await stop(server)
  for (const [streams, all] of figures) {
    const [min, middle, max] = [Math.min(...all), median(all), Math.max(...all)].map(Math.round)
    console.log(`streams ${streams}: median ${middle} MB/s (${min}-${max})`)
  }
}

/** Kills a push at half of its file and goes on with it; both over a relay that counts what comes to the server. */
async function resume(size) {
  await writeRandomFile(source, size)
  const { server, address } = await serve(XFERD, root)
  const relay = await counting(new URL(address).port)
  for (const streams of [1, 4]) {
    relay.reset()
    const target = `xfer://127.0.0.1:${relay.port}/copy`
    const flags = ['--resume', '--streams', `${streams}`, '--progress', 'jsonl']
    const { child } = launch(...XFERD, 'push', source, target, ...flags)
    while (relay.bytes < size / 2) await sleep(1)
    process.kill(-child.pid, 'SIGKILL')
    await once(child, 'exit')
    await sleep(100)
    const first = relay.bytes
    relay.reset()
    const client = await connect(`xfer://127.0.0.1:${relay.port}`)
    await client.list()
    relay.reset()
    const startMs = performance.now()
    const receipt = await client.push(source, 'copy', { resume: true, streams })
    const twice = first + relay.bytes - size
    console.log(
      `streams ${streams}: ${receipt.resumedBytes} of ${size} bytes were there; ` +
        `the first new byte came after ${(relay.firstMs - startMs).toFixed(1)} ms; ` +
        `${twice} bytes came twice or were no bytes of the file, ${(twice / EXTENT_BYTES).toFixed(2)} extents`,
    )
    await client.remove('copy')
    await client.close()
  }
  relay.close()
  await stop(server)
}

/** Carries connections to `port` and counts what goes there. */
async function counting(port) {
  const relay = {
    bytes: 0,
    firstMs: undefined,
    reset() {
      relay.bytes = 0
      relay.firstMs = undefined
    },
  }
  const server = createServer((inner) => {
    const outer = dial(port, '127.0.0.1')
    inner.on('data', (data) => {
      relay.bytes += data.length
      // Announcements are smaller than that.
      if (relay.firstMs === undefined && relay.bytes > 16_384) relay.firstMs = performance.now()
      if (!outer.write(data)) inner.pause()
    })
    outer.on('drain', () => inner.resume())
    outer.pipe(inner)
    for (const [one, other] of [
      [inner, outer],
      [outer, inner],
    ]) {
      one.on('error', () => {})
      one.on('close', () => other.destroy())
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  relay.port = server.address().port
  relay.close = () => server.close()
  return relay
}
