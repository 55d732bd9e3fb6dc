/** rsync, and its daemon. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Contender } from './contender.js'
import { accepting, copyNames, freePort, installed, launch, run, stop, timed } from './processes.mjs'

/** Whole files: its delta algorithm would only cost time where there is no older copy. */
export function rsync(isTree: boolean): Contender {
  const option = isTree ? '-a' : '-W'
  // What is in the tree, so that the copy gets a name of its own.
  const suffix = isTree ? '/' : ''
  return {
    name: `rsync ${option}`,
    kind: 'peer',
    keepsCopies: true,
    async start({ load: { clients, direction }, source, root, copies, scratch }) {
      const program = installed('rsync')
      const { stdout } = await run(program, '--version')
      const port = await freePort()
      const config = join(scratch, 'rsyncd.conf')
      writeFileSync(config, configuration(join(scratch, 'rsyncd.log'), root, port))
      const server = launch(program, '--daemon', '--no-detach', `--config=${config}`)
      await accepting(server, port)
      const at = `rsync://127.0.0.1:${port}/root`
      const move = (name: string): Promise<unknown> =>
        direction === 'push'
          ? run(program, option, source + suffix, `${at}/${name}`)
          : run(program, option, `${at}/source${suffix}`, join(copies, name))
      return {
        version: `rsync ${stdout.split(/\s+/)[2]}`,
        move: async () => ({ seconds: await timed(() => Promise.all(copyNames(clients).map(move))) }),
        stop: () => stop(server),
      }
    },
  }
}

function configuration(log: string, root: string, port: number): string {
  // As root it would otherwise become nobody, who may not write there.
  const identity = process.getuid?.() === 0 ? 'uid = 0\ngid = 0' : ''
  return `
address = 127.0.0.1
port = ${port}
use chroot = no
reverse lookup = no
max connections = 0
log file = ${log}
${identity}
[root]
path = ${root}
read only = no
`
}
