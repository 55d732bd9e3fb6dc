// rsync to an rsync daemon.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { accepting, find, freePort, launch, run, stop } from '../processes.mjs'

/** Whole files: its delta algorithm would only cost time where there is no older copy. */
export const rsyncWholeFile = rsync('-W')
/** A tree. The slash means what is in it, so that the copy gets a name of its own. */
export const rsyncArchive = rsync('-a', '/')

function rsync(option, suffix = '') {
  const program = find('rsync')
  return {
    name: `rsync ${option}`,

    async prepare() {
      if (!program) throw new Error('rsync is not installed')
      const { stdout } = await run(program, '--version')
      this.version = `rsync ${stdout.split(/\s+/)[2]}`
    },

    async start(folder, root) {
      const port = await freePort()
      const config = join(folder, `rsyncd-${port}.conf`)
      writeFileSync(config, configuration({ folder, root, port }))
      const server = launch(program, '--daemon', '--no-detach', `--config=${config}`)
      await accepting(server, port)
      return {
        async push(source) {
          const { seconds } = await run(
            program,
            option,
            source + suffix,
            `rsync://127.0.0.1:${port}/root/copy`,
          )
          return { process_s: seconds }
        },
        stop: () => stop(server),
      }
    },
  }
}

function configuration({ folder, root, port }) {
  // As root it would otherwise become nobody, who may not write there.
  const identity = process.getuid() === 0 ? 'uid = 0\ngid = 0' : ''
  return `
address = 127.0.0.1
port = ${port}
use chroot = no
reverse lookup = no
log file = ${join(folder, 'rsyncd.log')}
${identity}
[root]
path = ${root}
read only = no
`
}
