/** scp, and an sshd of our own with keys of its own: nothing of this machine's set-up is used or changed. */
import { writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import type { Contender } from './contender.js'
import { accepting, copyNames, freePort, installed, launch, run, stop, timed } from './processes.mjs'

/** More than sshd's default of 10, which would turn away some of many clients at random. */
const LOGINS_AT_ONCE_MAX = 1000

/** It encrypts, which the others do not. */
export function scp(isTree: boolean): Contender {
  return {
    name: isTree ? 'scp -r' : 'scp',
    kind: 'peer',
    keepsCopies: true,
    async start({ load: { clients, direction }, source, copies, scratch }) {
      const [program, daemon, keygen] = [installed('scp'), installed('sshd'), installed('ssh-keygen')]
      const at = (name: string): string => join(scratch, name)
      for (const key of ['host-key', 'key']) await run(keygen, '-q', '-t', 'ed25519', '-N', '', '-f', at(key))
      const port = await freePort()
      writeFileSync(at('sshd.conf'), configuration(at, port))
      const server = launch(daemon, '-D', '-e', '-f', at('sshd.conf'))
      await accepting(server, port)
      const options = ['-q', '-F', '/dev/null', '-i', at('key'), '-P', `${port}`, ...(isTree ? ['-r'] : [])]
      const settings = ['BatchMode=yes', 'StrictHostKeyChecking=no', `UserKnownHostsFile=${at('hosts')}`]
      const flags = [...options, ...settings.flatMap((setting) => ['-o', setting])]
      const host = `${userInfo().username}@127.0.0.1:`
      const move = (name: string): Promise<unknown> =>
        direction === 'push'
          ? run(program, ...flags, source, `${host}${join(copies, name)}`)
          : run(program, ...flags, `${host}${source}`, join(copies, name))
      const { stderr } = await run(installed('ssh'), '-V')
      return {
        version: stderr.split(/[ ,]/)[0] ?? '',
        move: async () => ({ seconds: await timed(() => Promise.all(copyNames(clients).map(move))) }),
        stop: () => stop(server),
      }
    },
  }
}

function configuration(at: (name: string) => string, port: number): string {
  return `
ListenAddress 127.0.0.1
Port ${port}
HostKey ${at('host-key')}
AuthorizedKeysFile ${at('key.pub')}
PidFile ${at('pid')}
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups ${LOGINS_AT_ONCE_MAX}
Subsystem sftp internal-sftp
`
}
