import { once } from 'node:events'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as Flags from '@oclif/core/flags'
import { XferdError } from '../../src/index.js'
import { svgFile } from '../bench/chart.js'
import type { Contender, Load } from '../bench/contender.js'
import { writeRandomFile, writeRandomTree } from '../bench/disk.mjs'
import { kernelWays } from '../bench/kernel.js'
import { machine } from '../bench/machine.js'
import { page } from '../bench/page.js'
import { PEERS, peers } from '../bench/peers.js'
import {
  CLIENTS_MAX,
  fileLoads,
  names,
  numbers,
  proveRoom,
  proveWritable,
  ROUNDS_MAX,
  sourceBytes,
  TREE,
  treeLoads,
  WORKERS_MAX,
} from '../bench/plan.js'
import { killAll } from '../bench/processes.mjs'
import { race } from '../bench/race.js'
import { type Report, summarize } from '../bench/summary.js'
import { tables, terms } from '../bench/table.js'
import { tar } from '../bench/tar.js'
import { xferd, xferdProcess } from '../bench/xferd.js'
import { XferdCommand } from '../command.js'
import { EXIT_CODES } from '../exit-codes.js'
import { WRITE_PATHS } from '../write-paths.js'

export class Bench extends XferdCommand {
  static override summary = 'Measure how fast this machine moves files, beside what its kernel can do.'
  static override description =
    'A server runs in a process of its own and the client in this one, over the loopback interface. The kernel alone does ' +
    'the same with each of its ways to store (the same system calls without protocol, digest or commit); the best of them is ' +
    'what every row is compared with.\n\n' +
    'All take turns, round by round and every second round in reverse. Of loads above 5 GB only the ' +
    'two best ways of the kernel go on after the first round. Each copy is compared with its source in the first round, by its size later, and removed after each turn; the ' +
    'disk has come to rest before the next. Figures are medians over the rounds; CPU is of one core; memory is the peak of a ' +
    'turn. Sizes are decimal: 1 MB is 1,000,000 bytes.\n\n' +
    'Files go to a folder in the temporary folder of the system, which is removed at the end. Use --dir for another disk. ' +
    'ext4 makes files slowly for half a minute after many were deleted: let that pass between runs with --tree.'
  static override examples = [
    '<%= config.bin %> bench',
    '<%= config.bin %> bench --clients 1,10 --rounds 3 --threads 0',
    '<%= config.bin %> bench --clients 1 --compare rsync,nginx,scp',
    '<%= config.bin %> bench --pull --svg chart.svg --html report.html',
    '<%= config.bin %> bench --clients 1,10 --write-path auto,cached,uncached,direct',
    '<%= config.bin %> bench --tree --compare rsync --json',
  ]
  static override flags = {
    clients: Flags.string({
      default: '1,10,50',
      helpValue: 'N,…',
      description: `copies that are moved at once; a load for each, of 1 to ${CLIENTS_MAX}`,
    }),
    size: Flags.string({ default: '469.2MB', helpValue: 'SIZE', description: 'of the file that is moved' }),
    rounds: Flags.integer({
      default: 10,
      min: 1,
      max: ROUNDS_MAX,
      helpValue: 'N',
      description: 'turns of each, whose median counts',
    }),
    threads: Flags.string({
      default: '0,8',
      helpValue: 'N,…',
      description: 'worker threads of the server; a row for each',
    }),
    'write-path': Flags.string({
      default: 'auto',
      helpValue: 'WAY,…',
      description: `way to the disk of the server, of ${WRITE_PATHS.join(', ')}; a row for each`,
    }),
    pull: Flags.boolean({ exclusive: ['write-path'], description: 'pull copies instead of pushing them' }),
    tree: Flags.boolean({
      exclusive: ['clients', 'size', 'pull'],
      description: `push and pull a tree of ${TREE.folders * TREE.filesPerFolder} files of ${TREE.fileBytes / 1024} KiB instead`,
    }),
    digest: Flags.option({ options: ['crc64nvme', 'none'] as const })({
      default: 'crc64nvme',
      description: 'how xferd proves that what arrives is what was sent',
    }),
    compare: Flags.string({
      helpValue: 'NAME,…',
      description: `other programs that take their turn, of ${PEERS.join(', ')}; whole processes, as is an xferd that joins them`,
    }),
    mmap: Flags.boolean({ description: 'xferd sends from one shared mapping of the file' }),
    svg: Flags.string({ helpValue: 'FILE', description: 'write a bar chart of the throughput' }),
    html: Flags.string({
      helpValue: 'FILE',
      description: 'write a report with charts and all figures, in one file',
    }),
    dir: Flags.string({
      helpValue: 'DIR',
      description: 'where files go, in a folder that is removed at the end',
    }),
  }

  override async run(): Promise<Report> {
    const { flags } = await this.parse(Bench)
    const direction = flags.pull ? 'pull' : 'push'
    const loads = flags.tree
      ? treeLoads()
      : fileLoads(
          direction,
          sourceBytes('--size', flags.size),
          numbers('--clients', flags.clients, 1, CLIENTS_MAX),
        )
    const options = { digest: flags.digest, mmap: flags.mmap }
    const threads = numbers('--threads', flags.threads, 0, WORKERS_MAX)
    const writePaths = names('--write-path', flags['write-path'], WRITE_PATHS)
    const compare = flags.compare === undefined ? [] : names('--compare', flags.compare, PEERS)
    const contendersOf = (load: Load): Contender[] => [
      ...(load.isTree ? [tar] : kernelWays),
      ...threads.flatMap((threads) => writePaths.map((writePath) => xferd(threads, writePath, options))),
      ...(compare.length > 0 ? [xferdProcess(options)] : []),
      ...peers(compare, load),
    ]
    const parent = flags.dir ?? tmpdir()
    const turns = loads.flatMap(contendersOf).length * flags.rounds
    proveRoom(parent, loads, turns)
    for (const file of [flags.svg, flags.html]) if (file !== undefined) proveWritable(file)

    const folder = realpathSync(mkdtempSync(join(parent, 'xferd-bench-')))
    const interruption = new AbortController()
    const { signal } = interruption
    const interrupt = (signal: NodeJS.Signals): void =>
      interruption.abort(new XferdError('ABORTED', `interrupted by ${signal}`))
    process.once('SIGINT', interrupt).once('SIGTERM', interrupt)
    try {
      const interrupted = once(signal, 'abort').then(() => Promise.reject(signal.reason))
      const racing = this.#race(loads, contendersOf, folder, flags.rounds)
      const raced = await Promise.race([racing, interrupted])
      const report = { machine: machine(folder), rounds: flags.rounds, digest: flags.digest, ...raced }
      for (const part of tables(report)) this.print(`${part}\n`)
      this.print(terms(report))
      for (const { what, reason } of report.left_out) this.print(`\nLeft out: ${what}: ${reason}`)
      if (flags.svg !== undefined) writeFileSync(flags.svg, svgFile(report))
      if (flags.html !== undefined) writeFileSync(flags.html, page(report))
      return report
    } finally {
      process.off('SIGINT', interrupt).off('SIGTERM', interrupt)
      killAll()
      // What was killed just now may still be finishing a write.
      rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
    }
  }

  async #race(
    loads: Load[],
    contendersOf: (load: Load) => Contender[],
    folder: string,
    rounds: number,
  ): Promise<Pick<Report, 'loads' | 'left_out'>> {
    const source = join(folder, 'sources', 'source')
    mkdirSync(join(folder, 'sources'))
    this.tell('writing what will be moved')
    const [first] = loads
    if (first?.isTree) await writeRandomTree(source, TREE)
    else await writeRandomFile(source, first?.sourceBytes ?? 0)
    const raced: Pick<Report, 'loads' | 'left_out'> = { loads: [], left_out: [] }
    for (const [number, load] of loads.entries()) {
      const place = { source, folder: join(folder, `load-${number}`), rounds, tell: this.tell.bind(this) }
      const { entries, leftOut } = await race(load, contendersOf(load), place)
      raced.loads.push(summarize(load, entries))
      raced.left_out.push(...leftOut)
    }
    return raced
  }

  /** What was under way when a signal came would go on, and keep this process. */
  protected override async catch(error: Error): Promise<void> {
    await super.catch(error)
    if (process.exitCode === EXIT_CODES.interrupted[0]) process.exit()
  }
}
