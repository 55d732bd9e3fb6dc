// What docs/why-send-path.md tells: what the sender's digest costs, taken by a worker meanwhile or between two sends.
//
//   node bench/digest.mjs [--rounds 9] [--size 469.2e6 in bytes]

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { connect } from 'xferd'
import { writeRandomFile } from '../cli/bench/disk.mjs'
import { stop } from '../cli/bench/processes.mjs'
import { ROOT } from './gate/checkout.mjs'
import { median } from './gate/verdict.mjs'
import { temporaryFolder } from './temporary-folder.mjs'
import { serve, xferdOf } from './xferd.mjs'

const WAYS = {
  'no digest': { workers: 2, digest: 'none' },
  'digest by a worker': { workers: 2 },
  'digest between sends': { workers: 0 },
  'mapped, no digest': { workers: 2, digest: 'none', mmap: true },
  'mapped, digest by a worker': { workers: 2, mmap: true },
}

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '9' }, size: { type: 'string', default: '469.2e6' } },
})
const [rounds, size] = [Number(values.rounds), Number(values.size)]

const folder = temporaryFolder('digest')
const source = join(folder, 'source')
const root = join(folder, 'root')
await writeRandomFile(source, size)
mkdirSync(root)
const { server, address } = await serve(xferdOf(ROOT), root)

const rates = new Map(Object.keys(WAYS).map((name) => [name, []]))
for (let round = -1; round < rounds; round++) {
  for (const [name, { workers, ...options }] of Object.entries(WAYS)) {
    const client = await connect(address, { workers })
    const { seconds } = await client.push(source, 'copy', options)
    await client.remove('copy')
    await client.close()
    if (round >= 0) rates.get(name).push(size / 1e6 / seconds)
  }
}
await stop(server)
for (const [name, all] of rates) {
  const [min, middle, max] = [Math.min(...all), median(all), Math.max(...all)].map(Math.round)
  console.log(`${name.padEnd(28)} median ${middle} MB/s (${min}-${max})`)
}
