import * as Args from '@oclif/core/args'
import * as Flags from '@oclif/core/flags'
import { type KvLoadOptions, XferdError } from '../../../src/index.js'
import { BACKENDS } from '../../backends.js'
import { XferdCommand } from '../../command.js'
import { EXIT_CODES } from '../../exit-codes.js'
import { histogram, type Report, shown, take } from '../../kv/bench.js'
import { firstLine } from '../../kv-flags.js'
import { formatCount } from '../../text.js'

const ROUNDS_MAX = 1000

export class KvBench extends XferdCommand {
  static override summary = 'Measure how many requests a key-value store answers, and how soon.'
  static override description =
    "Any server of Redis's protocol can be measured, also over a Unix socket. Keys that are asked for begin with " +
    'xferd-bench:, are written before and removed in the end; what comes before the measurement does not count.\n\n' +
    'Without --rate each connection asks again when it was answered. With it requests are made at their times, and how long ' +
    'one takes is counted from when it was due: if the server stands still for a second, all that were due in it are late, not ' +
    'only those that happened to be on their way.\n\n' +
    'With --compare both are measured in turns, and every second round begins with the other. Figures are medians over the rounds.'
  static override examples = [
    '<%= config.bin %> <%= command.id %> kv://127.0.0.1:6390',
    '<%= config.bin %> <%= command.id %> kv://127.0.0.1:6390 --command mixed:0.9 --distribution zipf:0.99 --pipeline 16',
    '<%= config.bin %> <%= command.id %> kv://127.0.0.1:6390 --connections 1000 --rate 50000 --seconds 30',
    '<%= config.bin %> <%= command.id %> kv://127.0.0.1:6390 --compare kv://127.0.0.1:6379 --rounds 5',
    '<%= config.bin %> <%= command.id %> kv+unix:///run/xferd-kv.sock --json',
  ]
  static override args = {
    url: Args.string({
      required: true,
      ignoreStdin: true,
      description: 'kv://HOST[:PORT] or kv+unix:///PATH',
    }),
  }
  static override flags = {
    command: Flags.string({
      default: 'get',
      helpValue: 'NAME',
      description:
        'get, set, incr, lpush, ping, or mixed:0.9, nine tenths of which are get and the others set',
    }),
    connections: Flags.integer({ min: 1, helpValue: 'N', char: 'c', default: 50, description: 'that ask' }),
    pipeline: Flags.integer({
      min: 1,
      helpValue: 'N',
      char: 'P',
      default: 1,
      description: 'requests that a connection sends at once',
    }),
    threads: Flags.integer({ min: 1, helpValue: 'N', default: 1, description: 'that generate the load' }),
    seconds: Flags.string({
      default: '5',
      helpValue: 'N',
      description: 'how long is measured',
    }),
    requests: Flags.integer({
      min: 1,
      helpValue: 'N',
      char: 'n',
      exclusive: ['seconds'],
      description: 'how many are measured, instead',
    }),
    'warm-up': Flags.string({ default: '1', helpValue: 'SECONDS', description: 'how long is asked before' }),
    rate: Flags.integer({
      min: 1,
      helpValue: 'N',
      description: 'requests a second; as many as are answered unless given',
    }),
    keys: Flags.integer({ min: 1, helpValue: 'N', default: 100_000, description: 'that are asked for' }),
    'value-bytes': Flags.integer({ helpValue: 'N', default: 64, min: 0, description: 'of a value' }),
    distribution: Flags.string({
      default: 'uniform',
      helpValue: 'NAME',
      description: 'uniform, sequential, or zipf:0.99, with its exponent: few keys are asked for often',
    }),
    compare: Flags.string({
      helpValue: 'URL',
      description: 'another server, measured in turns with the first',
    }),
    rounds: Flags.integer({
      min: 1,
      helpValue: 'N',
      max: ROUNDS_MAX,
      description: 'turns of each; 5 with --compare, else 1',
    }),
    'password-file': Flags.string({ helpValue: 'FILE', description: 'its first line is the password' }),
    'compare-password-file': Flags.string({
      helpValue: 'FILE',
      dependsOn: ['compare'],
      description: 'the same for the other server',
    }),
    backend: Flags.option({ options: BACKENDS })({ description: 'what waits for sockets here' }),
  }

  override async run(): Promise<Report> {
    const { args, flags } = await this.parse(KvBench)
    const [command, reads] = named('--command', flags.command, COMMANDS)
    const [distribution, exponent] = named('--distribution', flags.distribution, DISTRIBUTIONS)
    const options: KvLoadOptions = {
      command,
      ...(reads === undefined ? {} : { reads }),
      distribution,
      ...(exponent === undefined ? {} : { exponent }),
      connections: flags.connections,
      pipeline: flags.pipeline,
      threads: flags.threads,
      keys: flags.keys,
      valueBytes: flags['value-bytes'],
      warmUpMs: milliseconds('--warm-up', flags['warm-up']),
      ...(flags.requests === undefined
        ? { timeMs: milliseconds('--seconds', flags.seconds) }
        : { requests: flags.requests }),
      ...(flags.rate === undefined ? {} : { rate: flags.rate }),
      ...(flags.backend === undefined ? {} : { backend: flags.backend }),
    }
    const withPassword = async (file: string | undefined) =>
      file === undefined ? options : { ...options, password: await firstLine(file) }
    const contenders = [{ address: args.url, options: await withPassword(flags['password-file']) }]
    if (flags.compare !== undefined) {
      const options = await withPassword(flags['compare-password-file'])
      contenders.push({ address: flags.compare, options })
    }
    const rounds = flags.rounds ?? (flags.compare === undefined ? 1 : 5)
    const report = await take(contenders, rounds, this.tell.bind(this))
    this.print(shown(report))
    const [first] = report.stores
    if (report.stores.length === 1 && first?.rounds.length === 1 && first.rounds[0])
      this.print(`\n${histogram(first.rounds[0])}`)
    for (const store of report.stores) this.#complain(store)
    return report
  }

  /** Says what makes the figures doubtful. */
  #complain({ address, requests, errors, first_error, misses, unsent }: Report['stores'][number]): void {
    if (errors > 0) {
      const all = formatCount(requests, 'request')
      this.tell(`${address}: ${formatCount(errors, 'error')} in answer to ${all}, the first: ${first_error}`)
      process.exitCode = EXIT_CODES.failure[0]
    }
    if (misses > 0) this.tell(`${address}: ${formatCount(misses, 'key')} had no value any more`)
    if (unsent > 0)
      this.tell(
        `${address}: ${formatCount(unsent, 'request')} could not be sent in time: the rate is too high`,
      )
  }
}

const COMMANDS = { get: false, set: false, mixed: true, incr: false, lpush: false, ping: false }
const DISTRIBUTIONS = { uniform: false, zipf: true, sequential: false }

/** A name, and the number behind its colon if it has one. */
function named<Name extends string>(
  flag: string,
  text: string,
  known: Record<Name, boolean>,
): [Name, number | undefined] {
  const [, name = '', digits] = /^(\w+)(?::(\d*\.?\d+))?$/.exec(text) ?? []
  const hasNumber = Object.hasOwn(known, name) ? known[name as Name] : undefined
  if (hasNumber === (digits !== undefined))
    return [name as Name, digits === undefined ? digits : Number(digits)]
  const choices = Object.entries(known).map(([name, hasNumber]) => (hasNumber ? `${name}:NUMBER` : name))
  throw new XferdError('INVALID_ARGUMENT', `${flag} ${text}: there are ${choices.join(', ')}`)
}

function milliseconds(flag: string, text: string): number {
  if (/^\d*\.?\d+$/.test(text)) return Number(text) * 1000
  throw new XferdError('INVALID_ARGUMENT', `${flag} ${text}: give a number of seconds`)
}
