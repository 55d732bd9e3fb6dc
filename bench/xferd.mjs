// The `xferd` of a checkout, in processes of its own.
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { launch, ready } from '../cli/bench/processes.mjs'

/** The command that runs it. */
export function xferdOf(checkout) {
  return [process.execPath, join(checkout, 'bin/xferd.js')]
}

/** Serves `root` on a free port by the command `xferd`, and says where once it listens. */
export async function serve(xferd, root, ...flags) {
  const server = launch(...xferd, 'serve', root, '--port', '0', '--json', ...flags)
  let line = ''
  createInterface({ input: server.child.stdout }).once('line', (first) => {
    line = first
  })
  await ready(server, () => line !== '')
  const { addresses, pid } = JSON.parse(line)
  return { server, address: addresses[0], pid }
}
