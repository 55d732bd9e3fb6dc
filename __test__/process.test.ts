import { once } from 'node:events'
import { existsSync, readdirSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { connect } from 'xferd'
import {
  address,
  folder,
  line,
  namesBelow,
  outcome,
  pair,
  randomFile,
  runScript,
  stallingNetwork,
  startScript,
} from './fixture.js'

const IMPORT = `import { serve, connect } from 'xferd'; const [, ...args] = process.argv;`

test('a process with an idle client exits by itself', async (t) => {
  const { here, server } = await pair(t)
  const { code, signal, stderr } = await runScript(
    `${IMPORT}
    const client = await connect(args[0])
    await client.push(args[1], 'copy')`,
    address(server),
    randomFile(join(here, 'source'), 1000),
  )
  t.deepEqual([code, signal], [0, null], stderr)
})

test('a process with a server that was unreferenced exits by itself', async (t) => {
  const { code, signal, stderr } = await runScript(
    `${IMPORT}
    const server = await serve({ root: args[0], listen: ['xfer://127.0.0.1:0'] })
    server.unref()`,
    folder(t),
  )
  t.deepEqual([code, signal], [0, null], stderr)
})

test('a process whose server was closed exits by itself', async (t) => {
  const { code, signal, stderr } = await runScript(
    `${IMPORT}
    const server = await serve({ root: args[0], listen: ['xfer://127.0.0.1:0'] })
    const client = await connect(server.addresses[0])
    await client.list()
    await server.close()`,
    folder(t),
  )
  t.deepEqual([code, signal], [0, null], stderr)
})

test('a closed server and a closed client are let go', async (t) => {
  const { code, stdout, stderr } = await runScript(
    `${IMPORT}
    import { setFlagsFromString } from 'node:v8'
    import { runInNewContext } from 'node:vm'
    setFlagsFromString('--expose-gc')
    const gc = runInNewContext('gc')
    const pause = () => new Promise((resolve) => setTimeout(resolve, 10))
    const held = []
    const use = async () => {
      const server = await serve({ root: args[0], listen: ['xfer://127.0.0.1:0'] })
      const client = await connect(server.addresses[0])
      await client.list()
      await client.close()
      await server.close()
      held.push(new WeakRef(server), new WeakRef(client))
    }
    for (let round = 0; round < 20; round++) await use()
    for (let tries = 0; tries < 100 && held.some((ref) => ref.deref()); tries++) {
      await pause()
      gc()
    }
    console.log(held.filter((ref) => ref.deref()).length)`,
    folder(t),
  )
  t.deepEqual([code, stdout.trim()], [0, '0'], stderr)
})

test('a listening server keeps its process alive', async (t) => {
  const root = folder(t)
  const child = startScript(
    `${IMPORT}
    const server = await serve({ root: args[0], listen: ['xfer://127.0.0.1:0'] })
    console.log(server.addresses[0])`,
    root,
  )
  t.teardown(() => child.kill('SIGKILL'))
  const served = await line(child.stdout)
  await using client = await connect(served)
  t.deepEqual(await client.list(), [])
  t.is(child.exitCode, null)
})

test('a client may exit in the middle of a transfer', async (t) => {
  const { here, root, server } = await pair(t)
  const network = await stallingNetwork(t, address(server), 4_000_000)
  const { code, signal, stderr } = await runScript(
    `${IMPORT}
    const client = await connect(args[0])
    for await (const { bytes } of client.push(args[1], 'copy')) if (bytes > 0) process.exit(7)`,
    network.address,
    randomFile(join(here, 'source'), 64_000_000),
  )
  t.deepEqual([code, signal], [7, null], stderr)
  t.false(existsSync(join(root, 'copy')))
})

test('a server may exit in the middle of a transfer', async (t) => {
  const here = folder(t)
  const root = folder(t)
  const child = startScript(
    `${IMPORT}
    const server = await serve({ root: args[0], listen: ['xfer://127.0.0.1:0'] })
    console.log(server.addresses[0])
    process.on('SIGTERM', () => process.exit(7))`,
    root,
  )
  const ended = outcome(child)
  const network = await stallingNetwork(t, await line(child.stdout), 4_000_000)
  await using client = await connect(network.address)
  const transfer = client.push(randomFile(join(here, 'source'), 64_000_000), 'copy')
  for await (const { bytes } of transfer) if (bytes > 0) break
  child.kill('SIGTERM')
  const { code, signal, stderr } = await ended
  t.deepEqual([code, signal], [7, null], stderr)
  const error = await t.throwsAsync(async () => transfer, { code: 'CONNECTION_LOST' })
  t.true((error as { retryable?: boolean } | undefined)?.retryable)
  t.deepEqual(namesBelow(root), [])
})

test('no timer runs while nothing happens, and what happens then is told', async (t) => {
  const { code, stdout, stderr } = await runScript(
    `${IMPORT}
    import { createHook } from 'node:async_hooks'
    import { setTimeout as pause } from 'node:timers/promises'
    const made = []
    const hook = createHook({ init: (_, type) => void (/Time/.test(type) && made.push(type)) })
    const server = await serve({ root: args[0], listen: ['xfer://127.0.0.1:0'] })
    const happened = []
    const reading = (async () => {
      for await (const { event } of server.events()) {
        happened.push(event)
        if (event === 'accepted') accepted()
      }
    })()
    let accepted
    const first = new Promise((resolve) => { accepted = resolve })
    const client = await connect(server.addresses[0])
    await first
    await client.list()
    await pause(100)
    // The server waits for connections, the client has one, and somebody waits for events.
    const idle = pause(500)
    hook.enable()
    await idle
    hook.disable()
    const second = new Promise((resolve) => { accepted = resolve })
    const other = await connect(server.addresses[0])
    await second
    await other.close()
    await client.close()
    await server.close()
    await reading
    console.log(JSON.stringify({ made, left: process.getActiveResourcesInfo().filter((it) => /Time/.test(it)) }))
    console.log(happened.join(' '))`,
    folder(t),
  )
  t.is(code, 0, stderr)
  const [resources, happened] = stdout.trim().split('\n')
  t.deepEqual(JSON.parse(resources as string), { made: [], left: [] })
  t.is(happened, 'accepted accepted closed closed')
})

test('a server that was unreferenced lets its process exit although somebody waits for its events', async (t) => {
  const { code, signal, stderr } = await runScript(
    `${IMPORT}
    const server = await serve({ root: args[0], listen: ['xfer://127.0.0.1:0'] })
    server.unref()
    void server.events().next()`,
    folder(t),
  )
  t.deepEqual([code, signal], [0, null], stderr)
})

test('a storm of events reaches whoever reads them, all of it and in order', async (t) => {
  const { client, here, server } = await pair(t)
  const source = join(here, 'tree')
  for (let file = 0; file < 600; file++) randomFile(join(source, `${file}`), 10)
  const stored = new Set<string | undefined>()
  const reading = (async () => {
    for await (const { event, path } of server.events()) if (event === 'stored') stored.add(path)
  })()
  await client.push(source, 'tree')
  await server.close()
  await reading
  t.is(stored.size, 600)
})

/** Serves, transfers and closes in a thread of its own. */
const WORKER = `
  const { workerData } = require('node:worker_threads')
  const { serve, connect } = require('xferd')
  ;(async () => {
    const server = await serve({ root: workerData.root, listen: ['xfer://127.0.0.1:0'] })
    const client = await connect(server.addresses[0])
    await client.push(workerData.source, 'copy-' + workerData.index)
    if (workerData.endless) {
      for await (const { bytes } of client.push(workerData.endless, 'endless', { digest: 'none' })) {
        if (bytes > 0) require('node:worker_threads').parentPort.postMessage('under way')
      }
    }
    await client.close()
    await server.close()
  })()
`

test.serial('worker threads start and stop it 50 times', async (t) => {
  const root = folder(t)
  const source = randomFile(join(folder(t), 'source'), 100_000)
  let threadsAfterFirst = 0
  for (let index = 0; index < 50; index++) {
    const worker = new Worker(WORKER, { eval: true, workerData: { root, source, index } })
    const [code] = await once(worker, 'exit')
    t.is(code, 0)
    if (index === 0) threadsAfterFirst = threads()
  }
  t.is(namesBelow(root).length, 50)
  t.true(
    threads() <= threadsAfterFirst + 2,
    `${threads()} threads, ${threadsAfterFirst} after the first worker`,
  )
})

test.serial('a worker that is terminated in the middle of a transfer takes nothing down', async (t) => {
  const root = folder(t)
  const here = folder(t)
  const source = randomFile(join(here, 'source'), 1000)
  const endless = randomFile(join(here, 'endless'), 1)
  truncateSync(endless, 8_000_000_000)
  const worker = new Worker(WORKER, { eval: true, workerData: { root, source, index: 0, endless } })
  await once(worker, 'message')
  await worker.terminate()
  t.deepEqual(namesBelow(root), ['copy-0'])
})

/** Of this process; where the system does not tell, none. */
function threads(): number {
  return existsSync('/proc/self/task') ? readdirSync('/proc/self/task').length : 0
}
