// `npm run bench`: what one call of the SDK costs over a kept connection, one after the other, client and server in this
// process. The bare round trip is what Node needs for a byte there and back, so it is the floor for all the others.
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createConnection, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import benny from 'benny'
import { connect, serve } from 'xferd'

const FILE_BYTES = 4096
const ENTRIES = 1000

const folder = mkdtempSync(join(tmpdir(), 'xferd-bench-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
process.on('SIGINT', () => process.exit(130))

const source = join(folder, 'source')
const root = join(folder, 'root')
writeFileSync(source, Buffer.alloc(FILE_BYTES, 1))
mkdirSync(join(root, 'many'), { recursive: true })
for (let entry = 0; entry < ENTRIES; entry++) writeFileSync(join(root, 'many', `file-${entry}`), '')

const server = await serve({ root, listen: ['xfer://127.0.0.1:0'] })
const client = await connect(server.addresses[0])
const echo = createServer((socket) => socket.setNoDelay().pipe(socket)).listen(0, '127.0.0.1')
await once(echo, 'listening')
const bare = createConnection({ port: echo.address().port, host: '127.0.0.1', noDelay: true })
await client.push(source, 'small')

await benny.suite(
  'SDK',
  benny.add('a bare round trip over TCP', async () => {
    bare.write('x')
    await once(bare, 'data')
  }),
  benny.add(`push a file of ${FILE_BYTES / 1024} KiB`, async () => {
    await client.push(source, 'small')
  }),
  benny.add('stat a file', async () => {
    await client.stat('small')
  }),
  benny.add(`list ${ENTRIES.toLocaleString('en')} entries`, async () => {
    await client.list('many')
  }),
  benny.complete(({ results }) => {
    for (const { name, details, margin } of results) {
      const median_us = (details.median * 1e6).toFixed(0)
      console.log(`${name.padEnd(30)} ${median_us.padStart(8)} µs  ±${margin.toFixed(1)} %`)
    }
  }),
)

bare.destroy()
echo.close()
await client.close()
await server.close()
