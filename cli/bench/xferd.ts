/** xferd itself: a server in a process of its own, and the SDK's client in this one. */
import { join } from 'node:path'
import { connect } from '../../src/index.js'
import type { WritePath } from '../write-paths.js'
import type { Contender, Place } from './contender.js'
import { Meter } from './meter.js'
import { launch, type Program, ready, run, stop, timed } from './processes.mjs'

/** The program that this bundle belongs to. */
const XFERD = join(__dirname, '../bin/xferd.js')

export interface XferdOptions {
  digest: 'crc64nvme' | 'none'
  mmap: boolean
}

/** With a server of so many worker threads, whose files take this way to the disk. */
export function xferd(threads: number, writePath: WritePath, options: XferdOptions): Contender {
  return {
    name: `xferd, ${threads} workers${writePath === 'auto' ? '' : `, ${writePath}`}`,
    kind: 'xferd',
    threads,
    keepsCopies: true,
    async start({ load, source, root, copies }) {
      const { server, address } = await serve(root, '--workers', `${threads}`, '--write-path', writePath)
      const meters = { server: new Meter(server.child.pid as number), client: new Meter(process.pid) }
      const { clients, direction } = load
      return {
        /** From the first connection, as the kernel's ways. Without the end of the client, which nobody waits for. */
        async move() {
          for (const meter of Object.values(meters)) meter.start()
          const startMs = performance.now()
          await using client = await connect(address)
          if (direction === 'push') {
            await client.push(source, 'copy', { clients, digest: options.digest, mmap: options.mmap })
          } else {
            await client.pull('source', join(copies, 'copy'), { clients, digest: options.digest })
          }
          const seconds = (performance.now() - startMs) / 1000
          return { seconds, server: meters.server.cost(), client: meters.client.cost() }
        },
        stop: () => stop(server),
      }
    },
  }
}

/** The command as people run it, from the start of its process to the end: as other programs are measured. */
export function xferdProcess(options: XferdOptions): Contender {
  return {
    name: 'xferd, whole process',
    kind: 'peer',
    keepsCopies: true,
    async start({ load, source, root, copies }: Place) {
      const { server, address } = await serve(root)
      const flags = ['--clients', `${load.clients}`, '--digest', options.digest, '--quiet']
      const args =
        load.direction === 'push'
          ? ['push', source, `${address}/copy`, ...flags, ...(options.mmap ? ['--mmap'] : [])]
          : ['pull', `${address}/source`, join(copies, 'copy'), ...flags]
      return {
        move: async () => ({ seconds: await timed(() => run(process.execPath, XFERD, ...args)) }),
        stop: () => stop(server),
      }
    },
  }
}

async function serve(root: string, ...flags: string[]): Promise<{ server: Program; address: string }> {
  const server = launch(process.execPath, XFERD, 'serve', root, '--port', '0', ...flags)
  const address = (): string | undefined => / on (xfer:\S+)\n/.exec(server.complaints)?.[1]
  await ready(server, () => address() !== undefined)
  return { server, address: address() ?? '' }
}
