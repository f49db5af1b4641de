/**
 * @file A second task for the CLIP pair, thrown away after training: name what lies at each of the nine places. It
 * makes the embeddings tell scenes apart by every attribute long before contrast alone would, and the image encoder's
 * patches know what is drawn at them, which is what an IP-Adapter Plus reads.
 */
import { Linear } from '../../src/nn/layers.js';
import { Module } from '../../src/nn/module.js';
import { op, type Tensor, tensor } from '../../src/torch/index.js';
import { centreOf, SIDE } from '../world/render.js';
import { COLOUR_NAMES, PLACES, type Scene, SHAPES, SIZES } from '../world/scene.js';

/** What is asked at each place; the first answer is "nothing". */
const QUESTIONS = [SHAPES, COLOUR_NAMES, SIZES].map((values) => values.length + 1);
const BACKGROUNDS = COLOUR_NAMES.length;

/** Embeddings [batch, width] of pictures or texts and the right answers → the loss, a scalar */
export class AttributeHead extends Module<[embeddings: Tensor, scenes: readonly Scene[]]> {
  readonly places: readonly Linear[];
  readonly background: Linear;

  constructor(width: number) {
    super();
    this.places = QUESTIONS.map((answers) => new Linear(width, PLACES.length * answers));
    this.background = new Linear(width, BACKGROUNDS);
  }

  protected forward(embeddings: Tensor, scenes: readonly Scene[]): Tensor {
    const places = this.places.map((head, question) => {
      const logits = head.call(embeddings).reshape(-1, QUESTIONS[question] as number);
      return crossEntropy(
        logits,
        scenes.flatMap((scene) => answersOf(scene, question)),
      );
    });
    const backgrounds = scenes.map(({ background }) => COLOUR_NAMES.indexOf(background));
    const background = crossEntropy(this.background.call(embeddings), backgrounds);
    // Seven places of nine are empty and easily right: a mean over all is small where things are still wrong.
    return places.reduce((sum, loss) => sum.add(loss.mul(3)), background);
  }
}

/** The image encoder's patch states [batch, 1 + patches, width] and the right answers → the loss, a scalar */
export class PatchHead extends Module<[states: Tensor, scenes: readonly Scene[]]> {
  readonly answers: readonly Linear[];

  constructor(width: number) {
    super();
    this.answers = QUESTIONS.map((answers) => new Linear(width, answers));
  }

  protected forward(states: Tensor, scenes: readonly Scene[]): Tensor {
    const perSide = Math.sqrt((states.shape[1] as number) - 1);
    const patches = PLACES.map((_, place) => {
      const { x, y } = centreOf(place);
      const [column, row] = [x, y].map((position) => Math.floor((position * perSide) / SIDE)) as [
        number,
        number,
      ];
      return 1 + row * perSide + column;
    });
    const atPlaces = states.indexSelect(1, tensor(patches, [PLACES.length], 'int64')).flatten(0, 1);
    return this.answers
      .map((head, question) => {
        const targets = scenes.flatMap((scene) => answersOf(scene, question));
        return crossEntropy(head.call(atPlaces), targets);
      })
      .reduce((sum, loss) => sum.add(loss));
  }
}

function answersOf({ things }: Scene, question: number): number[] {
  return PLACES.map((_, place) => {
    const thing = things.find((thing) => thing.place === place);
    if (thing === undefined) return 0;
    const { shape, colour, size } = thing;
    const answers = [SHAPES.indexOf(shape), COLOUR_NAMES.indexOf(colour), SIZES.indexOf(size)];
    return 1 + (answers[question] as number);
  });
}

/** The mean of -log softmax(logits)[target] over rows; logits [rows, classes] */
export function crossEntropy(logits: Tensor, targets: readonly number[]): Tensor {
  return crossEntropyLoss(logits, tensor(targets, [targets.length], 'int64'));
}

const crossEntropyLoss = op(
  'aten::cross_entropy_loss(Tensor self, Tensor target, Tensor? weight=None, int reduction=Mean) -> Tensor',
);
