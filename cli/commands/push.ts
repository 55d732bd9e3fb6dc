import * as Args from '@oclif/core/args'
import * as Flags from '@oclif/core/flags'
import { parseAddresses } from '../command.js'
import { TransferCommand, transferFlags } from '../transfer-command.js'

export class Push extends TransferCommand {
  static override summary = 'Send files and folders to a server.'
  static override description =
    'A target that ends with a slash is a folder to put them in; otherwise it is the new name. A file appears under its ' +
    'name once all of it has arrived and been proven; until then an existing one stays as it was. A file whose size and ' +
    'modification time are those of the one that is there already is not sent again.\n\n' +
    'Sizes and rates are decimal: 1 MB is 1,000,000 bytes.'
  static override usage = 'push SOURCE… xfer://HOST[:PORT]/PATH[/]'
  static override examples = [
    '<%= config.bin %> push movie.mkv xfer://nas/films/',
    '<%= config.bin %> push photos xfer://nas/backup --exclude "*.tmp" --streams 4',
    '<%= config.bin %> push photos xfer://nas/backup --checksum --dry-run',
    '<%= config.bin %> push disk.img xfer://nas/images/ --resume --streams 4',
    '<%= config.bin %> push disk.img "xfer://nas/copies/{n}.img" --clients 10 --json',
  ]
  static override args = {
    source: Args.string({
      required: true,
      multiple: true,
      ignoreStdin: true,
      description: 'files and folders to send',
    }),
    target: Args.string({
      required: true,
      ignoreStdin: true,
      description: 'where to: xfer://HOST[:PORT]/PATH[/]',
    }),
  }
  static override flags = {
    resume: Flags.boolean({
      description:
        'go on where an earlier push of the same files was cut off, and let a later one go on with this; a file that changed starts over',
    }),
    mmap: Flags.boolean({ description: 'send from one shared mapping of the file instead of reading it' }),
    ...transferFlags,
  }

  override async run(): Promise<unknown> {
    const { args, flags } = await this.parse(Push)
    const { server, paths } = parseAddresses([args.target])
    return this.transfer('pushed', server, flags, (client, options) =>
      client.push(args.source, paths[0] ?? '', { ...options, mmap: flags.mmap, resume: flags.resume }),
    )
  }
}
