"""Words that say nothing about a text, by language: articles, pronouns, prepositions, auxiliaries.

The lists are ours and short on purpose: function words only, in the form that `tokens` gives a word (lower case, NFKC,
English contractions without their apostrophe, Japanese in dictionary form).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ekiden.contracts.feature_config import Language

_ENGLISH = """
a an the
i me my mine we us our ours you your yours he him his she her hers it its they them their theirs
this that these those who whom whose which what myself yourself himself herself itself ourselves themselves
am is are was were be been being do does did doing have has had having
can could may might must shall should will would
and or but nor if then else than as because while until although though since so
of in on at by for with without from to into onto upon over under between among about against through during before
after above below up down out off near
not no too very just also only even still again once here there when where why how all any both each few more most
other another some such own same every either neither
im youre hes shes were theyre ive youve weve theyve ill youll hell shell well theyll id youd hed shed wed theyd
isnt arent wasnt werent dont doesnt didnt havent hasnt hadnt cant couldnt wont wouldnt shouldnt mustnt
"""
_SPANISH = """
el la los las lo un una unos unas al del
yo me mi mis tú tu tus te ti él ella ello ellos ellas se su sus sí nosotros nosotras nos nuestro nuestra nuestros
nuestras vosotros vosotras os vuestro vuestra usted ustedes le les
este esta estos estas esto ese esa esos esas eso aquel aquella aquellos aquellas
que quien quienes cual cuales cuyo cuya cuando donde como cuanto qué quién cuál cuándo dónde cómo
y e o u ni pero sino aunque porque si pues mientras
a ante bajo con contra de desde durante en entre hacia hasta para por según sin sobre tras
es son era eran fue fueron ser sido siendo soy eres somos está están estaba estar ha han había haber he hay
no muy más menos ya también tan tanto todo toda todos todas otro otra otros otras algún alguna algunos algunas mismo
misma cada poco mucho
"""
_FRENCH = """
le la les l un une des du d de au aux
je j me m moi mon ma mes tu te t toi ton ta tes il elle on se s soi son sa ses nous notre nos vous votre vos ils elles
leur leurs lui eux en y
ce c cet cette ces cela ça ceci celui celle ceux celles
que qu qui quoi dont où quel quelle quels quelles lequel laquelle
et ou mais ni car donc or si comme quand lorsque puisque parce
à dans par pour sur sous avec sans entre vers chez contre depuis pendant avant après dès jusque jusqu
est sont était étaient être étant suis es sommes êtes sera fut a ai as avons avez ont avait avoir eu ayant
ne n pas plus moins très trop aussi bien même tout toute tous toutes autre autres chaque quelque quelques peu déjà
encore ici là
"""
_HINDI = """
का के की को में से पर ने तक द्वारा लिए साथ बाद पहले ऊपर नीचे बीच पास बिना
और या एवं तथा लेकिन मगर परंतु किंतु अगर यदि तो कि क्योंकि इसलिए जब तब जहाँ वहाँ यहाँ जैसे वैसे
मैं मुझे मेरा मेरी मेरे हम हमें हमारा हमारी हमारे तू तुम तुम्हें तुम्हारा आप आपका आपकी आपके वह वे उस उसे उसका उसकी उसके
उन उन्हें उनका उनकी उनके यह ये इस इसे इसका इसकी इसके इन इन्हें इनका इनकी इनके अपना अपनी अपने
जो जिस जिसे जिसका जिसकी जिसके जिन कौन किस किसी कोई कुछ क्या कब कहाँ कैसे क्यों कितना सब सभी
है हैं था थे थी थीं हो हूँ होता होती होते हुआ हुई हुए होना होने गया गई गए जा रहा रही रहे कर करना करने किया की कर दिया
सकता सकती सकते चाहिए
ही भी न नहीं मत बहुत अधिक कम एक वाला वाली वाले
"""
# Chinese has no spaces: these characters end a run of characters, as punctuation does.
CHINESE_PARTICLES: Final = "的了着过吗呢吧啊呀嘛么得地之"

# What is left after the parts of speech are sifted (see `japanese`): formal nouns, auxiliaries, suffixes of address.
_JAPANESE = """
こと 事 もの 物 者 ところ 所 ため 為 よう 様 わけ 訳 はず 筈 うち 内 とき 時 ほう 方 まま 侭 ほど 程 くらい 位
ふう 風 ほか 他
など 等 つもり 積もり かた たち 達 ら がた さん 様 さま 氏 君 ちゃん 的 化 性 上 中 下 目 用 等々
する 為る いる 居る おる ある 有る 在る なる 成る できる 出来る くる 来る いく 行く ゆく しまう
仕舞う おく 置く みる 見る くれる 呉れる
もらう 貰う あげる 上げる やる 遣る いう 言う 云う よる 因る 依る 拠る つく 付く 対する 関する おける とる
ない 無い よい 良い いい
とても もっと また 又 まだ もう すぐ よく ただ 特に さらに 更に まず 先ず やはり やっぱり ちょっと かなり 全て すべて
"""

STOP_WORDS: Final[Mapping[Language, frozenset[str]]] = {
    "en": frozenset(_ENGLISH.split()),
    "es": frozenset(_SPANISH.split()),
    "fr": frozenset(_FRENCH.split()),
    "hi": frozenset(_HINDI.split()),
    "zh": frozenset(),
    "ja": frozenset(_JAPANESE.split()),
}
"""Stop words of each language that text may have."""
