// `npm run hostile-peers`: slow writers, slow readers, silent connections and peers that announce 4 GiB, all at once, against a server
// that may use 96 MiB more than it does when idle. It has to live, and to serve an honest client meanwhile. The limit is that of a
// memory cgroup (v1), which counts what the kernel keeps for the server, too; where none can be made, resident memory is watched.
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from 'xferd'
import {
  contentOf,
  ended,
  filesBelow,
  folder,
  hasEnded,
  options,
  report,
  start,
  writeBytes,
} from './harness.mjs'

const MIB = 1 << 20
const ALLOWED_MIB = 96
const CGROUPS = '/sys/fs/cgroup/memory'
const HONEST_MS_MAX = 120_000
const SERVE = `
  import { serve } from 'xferd'
  const [, root, maxConnections] = process.argv
  const server = await serve({ root, listen: ['xfer://127.0.0.1:0'], maxConnections: Number(maxConnections) })
  console.log(server.addresses[0])`

const settings = options({ writers: 500, readers: 500, silent: 10_000, announcers: 1000 })

await report('hostile-peers', settings, async (tally, told) => {
  const here = folder()
  const root = folder()
  mkdirSync(join(root, 'served/small'), { recursive: true })
  writeBytes(join(root, 'served/large'), 100_000_000, 'large')
  for (let file = 0; file < 10; file++)
    writeBytes(join(root, `served/small/${file}`), 64 << 10, `small-${file}`)
  mkdirSync(join(root, 'served/many'))
  for (let file = 0; file < 5000; file++)
    writeFileSync(join(root, `served/many/a-rather-long-name-${'x'.repeat(150)}-${file}`), '')
  mkdirSync(join(here, 'tree'))
  for (let file = 0; file < 100; file++)
    writeBytes(join(here, `tree/${file}`), 5000 * (file % 20), `tree-${file}`)
  writeBytes(join(here, 'large'), 20_000_000, 'honest')

  const { writers, readers, silent, announcers } = settings
  const cgroup = makeCgroup()
  const server = startServer(cgroup, root, writers + readers + silent + announcers + 100)
  const [address] = await Promise.race([
    once(createInterface({ input: server.stdout }), 'line'),
    once(server, 'exit'),
  ])
  if (hasEnded(server)) throw new Error(`the server ended: ${server.complaints}`)
  const memory = cgroup ? cgroupMemory(cgroup) : residentMemory(server)
  // Started, a server has yet to load what it first needs.
  await exchange(address, here, 'warm')
  await sleep(500)
  const idle = memory.limit(ALLOWED_MIB * MIB)
  told(`${memory.name}, idle ${mib(idle)} MiB, ${ALLOWED_MIB} more allowed`)

  const args = [
    join(import.meta.dirname, 'hostile.mjs'),
    new URL(address).port,
    writers,
    readers,
    silent,
    announcers,
  ]
  const hostile = start(process.execPath, args.map(String), ['pipe', 'pipe', 'pipe'])
  const lines = createInterface({ input: hostile.stdout })[Symbol.asyncIterator]()
  const { value: there } = await Promise.race([lines.next(), ended(server).then(() => ({}))])
  const crowd = there === undefined ? {} : JSON.parse(there)
  told(`there: ${JSON.stringify(crowd)}; memory ${mib(memory.now())} MiB`)
  for (const [kind, count] of Object.entries({ writers, readers, silent, announcers }))
    tally.count(kind, count)
  // Of a server that is gone nothing is known.
  for (let peer = 0; there !== undefined && peer < announcers; peer++)
    tally.check('announcers', 'failures', peer < crowd.announcers && 'it is not refused')

  const startMs = performance.now()
  const honest = await Promise.race([
    exchange(address, here, 'meanwhile').catch((error) => `${error.code}: ${error.message}`),
    sleep(HONEST_MS_MAX, `has not come to an end after ${HONEST_MS_MAX / 1000} s`, { ref: false }),
  ])
  const honestSeconds = (performance.now() - startMs) / 1000
  const peak = memory.peak()
  for (const kind of ['writers', 'readers', 'silent', 'announcers']) {
    if (settings[kind] === 0) continue
    tally.check(
      kind,
      'bounded',
      hasEnded(server) && `the server was ended by ${server.signalCode ?? server.exitCode}`,
    )
    tally.check(
      kind,
      'bounded',
      peak > idle + ALLOWED_MIB * MIB && `${mib(peak)} MiB in use, ${mib(idle)} when idle`,
    )
    tally.check(kind, 'bounded', honest && `an honest client ${honest}`)
  }
  hostile.stdin.end()
  await ended(hostile)
  const later = hasEnded(server)
    ? 'finds no server'
    : await exchange(address, here, 'later').catch((error) => error.message)
  tally.check('after all of it', 'bounded', later && `an honest client ${later}`)
  tally.count('after all of it')
  const pressure = memory.pressure()
  server.kill('SIGKILL')
  await ended(server)
  await cgroup?.remove()
  return {
    memory: memory.name,
    idle_mib: mib(idle),
    peak_mib: mib(peak),
    above_idle_mib: mib(peak - idle),
    ...pressure,
    honest_seconds: Math.round(honestSeconds * 100) / 100,
    connected: crowd,
  }
})

/** Pushes a file and a tree under names of their own, pulls them back, and says what is wrong with them. */
async function exchange(address, here, name) {
  const client = await connect(address)
  try {
    await client.push([join(here, 'large'), join(here, 'tree')], `honest/${name}/`)
    await client.pull(`honest/${name}`, join(here, name))
  } finally {
    await client.close()
  }
  const sent = ['large', ...filesBelow(join(here, 'tree')).map((path) => `tree/${path}`)]
  const different = sent.find((path) => contentOf(join(here, path)) !== contentOf(join(here, name, path)))
  return different && `${different} is not what was sent`
}

function startServer(cgroup, root, connections) {
  const command = [process.execPath, '--input-type=module', '--eval', SERVE, root, `${connections}`]
  if (!cgroup) return start(command[0], command.slice(1))
  return start('sh', ['-c', 'echo $$ > "$0" && exec "$@"', join(cgroup.path, 'cgroup.procs'), ...command])
}

/** A memory cgroup of our own; `undefined` where none can be made. */
function makeCgroup() {
  const path = join(CGROUPS, `xferd-reliability-${process.pid}`)
  if (!existsSync(join(CGROUPS, 'memory.limit_in_bytes'))) return undefined
  try {
    mkdirSync(path)
  } catch {
    return undefined
  }
  return {
    path,
    /** A cgroup outlives its last process for a moment. */
    async remove() {
      for (let tries = 0; existsSync(path) && tries < 50; tries++) {
        try {
          rmdirSync(path)
        } catch {
          await sleep(100)
        }
      }
    },
  }
}

function cgroupMemory({ path }) {
  const read = (name) => readFileSync(join(path, name), 'utf8')
  return {
    name: 'memory cgroup',
    /** Allows so much more than is in use, and returns that. */
    limit(more) {
      // What is only cached is no use of the server's own.
      writeFileSync(join(path, 'memory.force_empty'), '0')
      const used = Number(read('memory.usage_in_bytes'))
      writeFileSync(join(path, 'memory.limit_in_bytes'), `${used + more}`)
      writeFileSync(join(path, 'memory.max_usage_in_bytes'), '0')
      return used
    },
    now: () => Number(read('memory.usage_in_bytes')),
    peak: () => Number(read('memory.max_usage_in_bytes')),
    pressure: () => ({
      hit_the_limit: Number(read('memory.failcnt')),
      oom_kills: Number(/oom_kill (\d+)/.exec(read('memory.oom_control'))?.[1] ?? 0),
    }),
  }
}

function residentMemory({ pid }) {
  const status = (name) => {
    try {
      return (
        Number(new RegExp(`${name}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) * 1024
      )
    } catch {
      return 0
    }
  }
  return {
    name: 'resident memory',
    limit: () => status('VmRSS'),
    now: () => status('VmRSS'),
    peak: () => status('VmHWM'),
    pressure: () => ({}),
  }
}

function mib(bytes) {
  return Math.round(bytes / MIB)
}
