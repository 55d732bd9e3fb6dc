/** tar to nc to tar: what the system's own tools make of a tree, and the limit that a tree is compared with. */
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Contender } from './contender.js'
import { ended, freePort, installed, launch, ready, run } from './processes.mjs'

export const tar: Contender = {
  name: 'tar, nc, tar',
  kind: 'ceiling',
  keepsCopies: true,
  async start({ source, copies }) {
    const [pack, carry] = [installed('tar'), installed('nc')]
    if (process.platform !== 'linux') throw new Error('it is measured on Linux only')
    const { listen, end } = await dialect(carry)
    return {
      async move() {
        const copy = join(copies, 'copy')
        mkdirSync(copy)
        const port = await freePort()
        const receiver = launch('sh', '-c', `${carry} ${listen} ${port} | ${pack} -x -C "$1"`, 'sh', copy)
        const received = ended(receiver)
        // Not by connecting to it: it takes one connection.
        await ready(receiver, () => isListening(port))
        const startMs = performance.now()
        await Promise.all([
          run('sh', '-c', `${pack} -c -C "$1" . | ${carry} ${end} 127.0.0.1 ${port}`, 'sh', source),
          received,
        ])
        return { seconds: (performance.now() - startMs) / 1000 }
      },
      async stop() {},
    }
  },
}

/** OpenBSD's nc and the traditional one spell it differently. */
async function dialect(nc: string): Promise<{ listen: string; end: string }> {
  const help = await run(nc, '-h').then(
    ({ stdout, stderr }) => stdout + stderr,
    (error: Error) => error.message,
  )
  return help.includes('OpenBSD')
    ? { listen: '-l 127.0.0.1', end: '-N' }
    : { listen: '-l -s 127.0.0.1 -p', end: '-q 0' }
}

function isListening(port: number): boolean {
  const address = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`
  return readFileSync('/proc/net/tcp', 'utf8').includes(` ${address} 00000000:0000 0A`)
}
