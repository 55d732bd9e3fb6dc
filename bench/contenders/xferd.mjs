// This checkout's command line, as a user runs it: `xferd serve`, and a new `xferd push` for each measurement.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { accepting, freePort, launch, run, stop } from '../processes.mjs'

const CHECKOUT = join(import.meta.dirname, '../..')
const XFERD = join(CHECKOUT, 'bin/xferd.js')

export const xferd = {
  name: 'xferd push',
  isSubject: true,

  async prepare() {
    if (!existsSync(join(CHECKOUT, 'dist/cli.js'))) throw new Error('xferd is not built: run npm run build')
    const { stdout } = await run(process.execPath, XFERD, '--version')
    this.version = stdout.split(' ')[0].replace('/', ' ')
  },

  async start(_folder, root) {
    const port = await freePort()
    const server = launch(process.execPath, XFERD, 'serve', root, '--port', `${port}`)
    await accepting(server, port)
    const idleBytes = residentBytes(server.pid, 'VmRSS')
    return {
      async push(source, clients) {
        const target = `xfer://127.0.0.1:${port}/copy`
        const options = ['--clients', `${clients}`, '--json']
        const { seconds, stdout } = await run(process.execPath, XFERD, 'push', source, target, ...options)
        return { process_s: seconds, mb_per_s: JSON.parse(stdout).mb_per_s }
      },
      /** From its first idle moment to the largest it has ever been; `undefined` where the kernel does not say. */
      growthBytes: () => idleBytes && residentBytes(server.pid, 'VmHWM') - idleBytes,
      stop: () => stop(server),
    }
  },
}

function residentBytes(pid, line) {
  if (process.platform !== 'linux') return undefined
  const [, kib] = new RegExp(`^${line}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(kib) * 1024
}
