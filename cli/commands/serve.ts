import { once } from 'node:events'
import { resolve } from 'node:path'
import * as Args from '@oclif/core/args'
import * as Flags from '@oclif/core/flags'
import { DEFAULT_PORT, type Server, type ServerEvent, serve } from '../../src/index.js'
import { BACKENDS } from '../backends.js'
import { XferdCommand } from '../command.js'
import { EXIT_CODES } from '../exit-codes.js'
import { firstLine, KV_FSYNCS, KV_POLICIES, parseBytes } from '../kv-flags.js'
import { WRITE_PATHS } from '../write-paths.js'

export class Serve extends XferdCommand {
  static override summary = 'Serve a folder, or keys, or both.'
  static override description =
    'SIGINT or SIGTERM stops it: no new connections, and transfers under way may finish within --grace seconds. A second ' +
    'signal ends it at once.\n\n' +
    'With --json the first line is {"event":"listening","addresses":[…]}, and one object a line follows for each event.'
  static override examples = [
    '<%= config.bin %> serve inbox',
    '<%= config.bin %> serve /srv/files --listen xfer://127.0.0.1:7400 --listen "xfer://[::1]:7400"',
    '<%= config.bin %> serve /srv/files --listen xfer://10.0.0.5:7400 --insecure --read-only',
    '<%= config.bin %> serve --listen kv://127.0.0.1:6390 --kv-dir /srv/keys --kv-fsync always',
    '<%= config.bin %> serve --listen kv://127.0.0.1:6390 --kv-max-memory 1gb --kv-policy allkeys-lru',
    '<%= config.bin %> serve /srv/files --listen xfer://127.0.0.1:7400 --listen kv+unix:///run/xferd-kv.sock',
    '<%= config.bin %> serve /srv/files --listen "xfer+unix:///run/xferd.sock?mode=0660&group=100"',
  ]
  static override args = {
    root: Args.string({ default: '.', ignoreStdin: true, description: 'the folder to serve' }),
  }
  static override flags = {
    port: Flags.integer({
      char: 'p',
      min: 0,
      max: 65_535,
      exclusive: ['listen'],
      description: `port on 127.0.0.1, ${DEFAULT_PORT} unless given; 0 takes a free one`,
    }),
    listen: Flags.string({
      multiple: true,
      multipleNonGreedy: true,
      helpValue: 'xfer://HOST:PORT|xfer+unix:///PATH',
      description:
        'an address to listen on: xfer://HOST:PORT for files, kv://HOST:PORT for keys, with +unix:///PATH a Unix socket; may be given again. A Unix socket takes nobody but its owner, unless ?mode=, &user= and &group= after it say otherwise',
    }),
    insecure: Flags.boolean({
      description:
        'allow addresses that other machines can reach: anybody there may read and change the folder',
    }),
    'io-threads': Flags.integer({
      char: 'i',
      min: 1,
      helpValue: 'N',
      description: 'threads that move bytes',
    }),
    workers: Flags.integer({
      char: 'w',
      min: 0,
      helpValue: 'N',
      description: 'threads for file work; 0 does it on the threads that move bytes',
    }),
    backend: Flags.option({ options: BACKENDS })({
      description: 'what waits for connections; auto takes io_uring where it can be had and is better',
    }),
    fsync: Flags.boolean({ description: 'synchronise each file to disk before it counts as stored' }),
    'write-path': Flags.option({ options: WRITE_PATHS })({
      description:
        'how large files get to the disk; auto goes through the page cache until the kernel would slow writers down, and around it from there on',
    }),
    'read-only': Flags.boolean({ description: 'refuse every change' }),
    'kv-max-memory': Flags.custom<number>({ parse: async (text) => parseBytes(text) })({
      helpValue: 'BYTES',
      description: 'memory that keys may take: a number, or 100mb, 2gb; as much as there is unless given',
    }),
    'kv-policy': Flags.option({ options: KV_POLICIES })({
      description: 'which keys make room for others when that is used up',
      default: 'noeviction' as const,
    }),
    'kv-password-file': Flags.string({
      helpValue: 'FILE',
      description: 'a file whose first line clients of the key-value store have to say by AUTH',
    }),
    'kv-dir': Flags.string({
      helpValue: 'DIR',
      description: 'record changes to keys there and load them at the start; Redis 7 can read it',
    }),
    'kv-fsync': Flags.option({ options: KV_FSYNCS })({
      description:
        'when what was recorded is synchronised to disk: before it is acknowledged, once a second, or when the system does so',
      default: 'everysec' as const,
    }),
    'kv-idle': Flags.integer({
      min: 1,
      helpValue: 'SECONDS',
      description: 'end connections to the key-value store that say nothing for so long',
    }),
    grace: Flags.integer({
      default: 10,
      min: 0,
      helpValue: 'SECONDS',
      description: 'how long transfers may go on when stopping',
    }),
  }

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(Serve)
    const passwordFile = flags['kv-password-file']
    const password = passwordFile === undefined ? undefined : await firstLine(passwordFile)
    const listen = flags.listen ?? [`xfer://127.0.0.1:${flags.port ?? DEFAULT_PORT}`]
    const servesFiles = listen.some((address) => !address.startsWith('kv'))
    const server = await serve({
      ...(servesFiles ? { root: args.root } : {}),
      listen,
      kv: {
        policy: flags['kv-policy'],
        fsync: flags['kv-fsync'],
        ...(flags['kv-dir'] === undefined ? {} : { dir: flags['kv-dir'] }),
        ...(flags['kv-max-memory'] === undefined ? {} : { maxMemory: flags['kv-max-memory'] }),
        ...(password === undefined ? {} : { password }),
        ...(flags['kv-idle'] === undefined ? {} : { idleMs: flags['kv-idle'] * 1000 }),
      },
      durable: flags.fsync,
      ...(flags.backend === undefined ? {} : { backend: flags.backend }),
      ...(flags['write-path'] === undefined ? {} : { writePath: flags['write-path'] }),
      readOnly: flags['read-only'],
      insecure: flags.insecure,
      ...(flags['io-threads'] === undefined ? {} : { ioThreads: flags['io-threads'] }),
      ...(flags.workers === undefined ? {} : { workers: flags.workers }),
    })
    const root = servesFiles ? resolve(args.root) : undefined
    this.#report(
      { event: 'listening', addresses: server.addresses, root, pid: process.pid, backend: server.backend },
      `serving ${root ?? 'keys'} on ${server.addresses.join(', ')} with ${described(server.backend)}`,
    )
    await Promise.all([this.#follow(server), this.#stopOnSignal(server, flags.grace)])
    this.#report({ event: 'stopped', ...server.stats() }, 'stopped')
  }

  async #follow(server: Server): Promise<void> {
    for await (const batch of server.batches()) {
      if (batch.some(({ event }) => event === 'stop-asked')) process.kill(process.pid, 'SIGTERM')
      if (this.jsonEnabled()) process.stdout.write(linesOf(batch))
      else
        for (const { path, peer, error } of batch.filter(({ error }) => error))
          this.tell(`${path ?? peer ?? 'a connection'}: ${error?.message}`)
    }
  }

  async #stopOnSignal(server: Server, graceSeconds: number): Promise<void> {
    const [first] = await Promise.race(SIGNALS.map((signal) => once(process, signal)))
    const again = (): never => process.exit(EXIT_CODES.interrupted[0])
    for (const signal of SIGNALS) process.on(signal, again)
    this.#report(
      { event: 'stopping', signal: first, grace_s: graceSeconds },
      `stopping within ${graceSeconds} s; once more ends at once`,
    )
    await server.close({ graceMs: graceSeconds * 1000 })
  }

  #report(event: object, line?: string): void {
    if (this.jsonEnabled()) this.logJson(event)
    else if (line) this.tell(line)
  }
}

/**
 * A line of JSON for each. All are put into words at once: code that is run for each of 10,000 connections is compiled, which costs
 * more memory than those. No string contains what is between two events, because its quotes would be escaped.
 */
function linesOf(batch: ServerEvent[]): string {
  return `${JSON.stringify(batch).slice(1, -1).replaceAll('},{"event":', '}\n{"event":')}\n`
}

function described({ name, reason }: Server['backend']): string {
  return reason === undefined ? name : `${name}: ${reason}`
}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const
