"""A DSPy program of two steps and a calculator, with its metric: see dspy_pipeline.yaml.

The model reads a word problem, notes the numbers that matter, and writes the calculation down; Python does the sum.
"""

import ast
import math
import operator

import dspy

OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


class WordProblem(dspy.Module):
    def __init__(self):
        super().__init__()
        self.read = dspy.Predict(dspy.Signature("question -> facts", "List the numbers and what each one counts."))
        self.plan = dspy.Predict(dspy.Signature("question, facts -> expression", "Write the calculation."))

    def forward(self, question):
        facts = self.read(question=question).facts
        expression = self.plan(question=question, facts=facts).expression
        return dspy.Prediction(facts=facts, expression=expression, number=calculated(expression))


def metric(gold, pred, trace=None, pred_name=None, pred_trace=None):
    """Whether the calculation comes out right, and what went wrong where it does not."""
    if pred.number is None:
        feedback = f"{pred.expression!r} cannot be calculated: it may hold only numbers, + - * / and brackets."
    elif abs(pred.number - float(gold.number)) < 1e-6:
        return dspy.Prediction(score=1.0, feedback="Correct.")
    else:
        feedback = f"{pred.expression} makes {pred.number:g}, but the answer is {gold.number}."
    return dspy.Prediction(score=0.0, feedback=feedback)


def calculated(expression):
    """What an expression of numbers, + - * / and brackets comes to; None for any other text."""

    def value(node):
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATIONS:
                return OPERATIONS[type(op)](value(left), value(right))
        raise ValueError

    try:
        number = value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        return None
    return number if math.isfinite(number) else None
