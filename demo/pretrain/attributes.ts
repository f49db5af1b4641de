/**
 * @file Auxiliary training heads of the CLIP models: classify the thing at each of the nine places. With them the embeddings
 * distinguish all attributes of scenes much earlier than with contrastive loss alone, and the image encoder's patch states
 * describe their patch, which IP-Adapter Plus needs. The heads are discarded after training.
 */
import { Linear } from '../../src/nn/layers.js';
import { Module } from '../../src/nn/module.js';
import { op, type Tensor, tensor } from '../../src/torch/index.js';
import { centreOf, SIDE } from '../world/render.js';
import { COLOUR_NAMES, PLACES, type Scene, SHAPES, SIZES } from '../world/scene.js';

/** The number of classes of each attribute; class 0 means "nothing". */
const CLASSES = [SHAPES, COLOUR_NAMES, SIZES].map((values) => values.length + 1);
const BACKGROUNDS = COLOUR_NAMES.length;

/** Embeddings [batch, width] of images or texts, and their scenes → the loss, a scalar */
export class AttributeHead extends Module<[embeddings: Tensor, scenes: readonly Scene[]]> {
  readonly places: readonly Linear[];
  readonly background: Linear;

  constructor(width: number) {
    super();
    this.places = CLASSES.map((answers) => new Linear(width, PLACES.length * answers));
    this.background = new Linear(width, BACKGROUNDS);
  }

  protected forward(embeddings: Tensor, scenes: readonly Scene[]): Tensor {
    const places = this.places.map((head, question) => {
      const logits = head.call(embeddings).reshape(-1, CLASSES[question] as number);
      return crossEntropy(
        logits,
        scenes.flatMap((scene) => answersOf(scene, question)),
      );
    });
    const backgrounds = scenes.map(({ background }) => COLOUR_NAMES.indexOf(background));
    const background = crossEntropy(this.background.call(embeddings), backgrounds);
    // Most places are empty and easy to classify, so the mean over all places underweights those with things.
    return places.reduce((sum, loss) => sum.add(loss.mul(3)), background);
  }
}

/** The image encoder's patch states [batch, 1 + patches, width], and their scenes → the loss, a scalar */
export class PatchHead extends Module<[states: Tensor, scenes: readonly Scene[]]> {
  readonly answers: readonly Linear[];

  constructor(width: number) {
    super();
    this.answers = CLASSES.map((answers) => new Linear(width, answers));
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

/** Returns the mean of -log softmax(logits)[target] over rows; logits [rows, classes]. */
export function crossEntropy(logits: Tensor, targets: readonly number[]): Tensor {
  return crossEntropyLoss(logits, tensor(targets, [targets.length], 'int64'));
}

const crossEntropyLoss = op(
  'aten::cross_entropy_loss(Tensor self, Tensor target, Tensor? weight=None, int reduction=Mean) -> Tensor',
);
